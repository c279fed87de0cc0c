import { startRanks } from "bun-c10d/testing";
import { type Cell, nameOf } from "./cell.ts";
import type { Survivor } from "./survivor.ts";

/** What became of a job. */
export interface CellResult {
  readonly cell: Cell;
  readonly survivors: readonly Survivor[];
  /** Milliseconds from the fault, or for a stopped rank from the submission of the op, to the last survivor's error. */
  readonly errorMs: number;
  /** What is not as it should be; empty when all is well. */
  readonly problems: readonly string[];
}

const fixture = new URL("./fixtures/faulty-rank.ts", import.meta.url);
const JOB_LIMIT_MS = 40_000;
/** How soon after a lost connection, or after the time-out of an op, the error has to be there. */
const SOON_MS = 1_000;

/** Runs the job of a cell and judges it. */
export async function runCell(cell: Cell): Promise<CellResult> {
  const job = await startRanks(cell.worldSize, fixture, { args: cell, timeout: JOB_LIMIT_MS });
  const others = job.ranks.filter((rank) => rank.rank !== cell.culprit);
  // A stopped rank ends by our hand, when the others are through.
  await Promise.allSettled(others.map((rank) => rank.reported((report) => report === "survived")));
  if (cell.fault === "SIGSTOP") job.ranks[cell.culprit]?.kill("SIGKILL");
  const outcomes = await job.done;

  const problems: string[] = [];
  const survivors: Survivor[] = [];
  let errorMs = 0;
  const faultAt = Number(/fault at (\d+)/.exec(outcomes[cell.culprit]?.stdout ?? "")?.[1]);
  if (!Number.isFinite(faultAt)) problems.push(`rank ${cell.culprit} did not come to its fault`);
  for (const outcome of outcomes) {
    if (outcome.rank === cell.culprit) continue;
    const who = `rank ${outcome.rank}`;
    if (outcome.hung) problems.push(`${who} hung`);
    else if (outcome.signal !== null) problems.push(`${who} died of ${outcome.signal}`);
    else if (outcome.exitCode !== 0) problems.push(`${who} ended with code ${outcome.exitCode}`);
    if (outcome.error) problems.push(`${who}: ${outcome.error.message}`);
    if (outcome.value === undefined) {
      problems.push(`${who} has no result; stderr: ${outcome.stderr.slice(0, 500)}`);
      continue;
    }
    const survivor = outcome.value as Survivor;
    survivors.push(survivor);
    const since = cell.fault === "SIGSTOP" ? survivor.submitted : faultAt;
    errorMs = Math.max(errorMs, survivor.failed - since);
    problems.push(...judge(cell, survivor).map((problem) => `${who}: ${problem}`));
  }
  const limit = cell.fault === "SIGSTOP" ? cell.timeoutMs + SOON_MS : SOON_MS;
  if (errorMs > limit) problems.push(`the last error came after ${errorMs} ms`);
  const seqs = survivors.map(({ error }) => error.details?.seq ?? 0);
  if (Math.max(...seqs) - Math.min(...seqs) > 1) problems.push(`the ops that failed are far apart: ${seqs.join(", ")}`);
  return { cell, survivors, errorMs, problems };
}

function judge(cell: Cell, { error, next, nextMs, regroup, destroyMs }: Survivor): string[] {
  const problems: string[] = [];
  const expect = (holds: boolean, otherwise: string) => {
    if (!holds) problems.push(otherwise);
  };
  const { details } = error;
  const stopped = cell.fault === "SIGSTOP";
  // A waiting rank cannot ask the others: where another rank's time ran out first, it only sees that one leave.
  const names = stopped
    ? cell.mode === "wait"
      ? ["DistTimeoutError", "DistNetworkError"]
      : ["DistTimeoutError"]
    : ["DistNetworkError"];
  expect(names.includes(error.name), `${error.name} (${error.code}): ${error.message}`);
  expect(
    details?.group === "0" && details.op === cell.op && Number(details.seq) > 0,
    `details ${JSON.stringify(details)}`,
  );
  const peers = details?.peers ?? [];
  if (cell.mode === "await") {
    expect(peers.length === 1 && peers[0] === cell.culprit, `blames [${peers.join(", ")}]: ${error.message}`);
    expect(error.message.includes(`rank ${cell.culprit}`), `does not name the culprit: ${error.message}`);
  } else {
    expect(peers.length > 0, `names no peer: ${error.message}`);
  }
  for (const part of [cell.op, `#${details?.seq}`, 'group "0"']) {
    expect(error.message.includes(part), `message lacks ${part}: ${error.message}`);
  }
  expect(next?.code === "GROUP_FAILED", `next op: ${next?.code ?? "no error"}`);
  expect(next?.message.includes("newGroup()") === true, `next op gives no advice: ${next?.message}`);
  expect(nextMs < 100, `the next op was refused after ${nextMs} ms`);
  expect(regroup === "ok", `no new group: ${regroup}`);
  expect(destroyMs < 2_000, `destroyProcessGroup took ${destroyMs} ms`);
  return problems;
}

/** One line of the table: fault, op and mode, then errors, time to them, ranks they name, and the new group. */
export function lineOf({ cell, survivors, errorMs, problems }: CellResult): string {
  const distinct = (texts: readonly string[]) => [...new Set(texts)].join(" ");
  return [
    nameOf(cell).padEnd(50),
    distinct(survivors.map(({ error }) => `${error.name}/${error.code}`)).padEnd(34),
    `${errorMs} ms`.padStart(8),
    `blamed ${distinct(survivors.map(({ error }) => `[${error.details?.peers?.join(",") ?? ""}]`))}`.padEnd(20),
    `new group ${distinct(survivors.map(({ regroup }) => regroup))}`,
    ...problems.map((problem) => `\n    ! ${problem}`),
  ].join("  ");
}
