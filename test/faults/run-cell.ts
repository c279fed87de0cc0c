import { type ReportedError, type SpawnOptions, startRanks } from "bun-c10d/testing";
import { emulatorEnv } from "../../src/backends/nccl/fixtures/emulator.ts";
import type { TwoHosts } from "../multi-host/two-hosts.ts";
import { type Cell, type FaultBackend, isSilent, nameOf } from "./cell.ts";
import { CutNetwork } from "./cut-network.ts";
import { expectedErrors } from "./expectation.ts";
import type { Survivor } from "./survivor.ts";

/** Outcome of a job. */
export interface CellResult {
  readonly cell: Cell;
  readonly survivors: readonly Survivor[];
  /** Milliseconds from the fault, or for a silent one from the submission of the op, to the last survivor's error. */
  readonly errorMs: number;
  /** What is unexpected; empty if nothing is. */
  readonly problems: readonly string[];
}

const environments: Readonly<Record<FaultBackend, SpawnOptions["env"]>> = { gloo: {}, nccl: emulatorEnv() };
const fixture = new URL("./fixtures/faulty-rank.ts", import.meta.url);
const JOB_LIMIT_MS = 40_000;
/** How soon after a lost connection, or after the time-out of an op, the error must arrive, on a busy machine. */
const SOON_MS = 3_000;

/** Runs the job of a cell and judges it; a cut network needs hosts to separate. */
export async function runCell(cell: Cell, hosts?: TwoHosts): Promise<CellResult> {
  if (cell.fault !== "cut") return runJob(cell);
  if (hosts === undefined) throw new Error("a cut network needs two hosts");
  await using network = await CutNetwork.make(hosts, cell);
  return await runJob(cell, network);
}

async function runJob(cell: Cell, network?: CutNetwork): Promise<CellResult> {
  const env = environments[cell.backend];
  const job = await startRanks(cell.worldSize, fixture, {
    env,
    ...network?.options,
    args: cell,
    timeout: JOB_LIMIT_MS,
  });
  const others = job.ranks.filter((rank) => rank.rank !== cell.culprit);
  const culprit = job.ranks[cell.culprit];
  const cutting = network && culprit?.reported((report) => report === "cut me off").then(() => network.cut());
  const survived = others.map((rank) => rank.reported((report) => report === "survived"));
  const ends = cutting ? [...survived, cutting, culprit?.reported(isCutOff)] : survived;
  await Promise.allSettled(ends);
  // We kill a silent rank when the others have finished.
  if (isSilent(cell.fault)) culprit?.kill("SIGKILL");
  const outcomes = await job.done;

  const problems: string[] = [];
  const survivors: Survivor[] = [];
  let errorMs = 0;
  const silent = isSilent(cell.fault);
  const faultAt = Number(/fault at (\d+)/.exec(outcomes[cell.culprit]?.stdout ?? "")?.[1]);
  if (network) problems.push(...judgeCutOff(cell, outcomes[cell.culprit]?.reports.find(isCutOff)));
  else if (!Number.isFinite(faultAt)) problems.push(`rank ${cell.culprit} did not reach its fault`);
  for (const outcome of outcomes) {
    if (outcome.rank === cell.culprit) {
      if (outcome.error) problems.push(`rank ${cell.culprit}: ${outcome.error.message}`);
      continue;
    }
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
    const since = silent ? survivor.submitted : faultAt;
    errorMs = Math.max(errorMs, survivor.failed - since);
    problems.push(...judge(cell, survivor).map((problem) => `${who}: ${problem}`));
  }
  const limit = silent ? cell.timeoutMs + SOON_MS : SOON_MS;
  if (errorMs > limit) problems.push(`the last error came after ${errorMs} ms`);
  // Messages are numbered for each pair of ranks, so in a ring the numbers may differ by its length.
  const seqs = survivors.map(({ error }) => error.details?.seq ?? 0);
  // A rank that only sends may be ahead of the others by as much as fits into the sockets.
  const apart = cell.op === "sendRecv" ? cell.worldSize : cell.op === "broadcast" ? Number.POSITIVE_INFINITY : 1;
  if (Math.max(...seqs) - Math.min(...seqs) > apart)
    problems.push(`the ops that failed are far apart: ${seqs.join(", ")}`);
  return { cell, survivors, errorMs, problems };
}

function isCutOff(report: unknown): report is { readonly cutOff: ReportedError } {
  return typeof report === "object" && report !== null && "cutOff" in report;
}

/** The rank that is cut off sees all others disconnect, and cannot ask them. */
function judgeCutOff({ culprit }: Cell, report: unknown): string[] {
  if (!isCutOff(report)) return [`rank ${culprit} did not notice that it was cut off`];
  const { name, code, message } = report.cutOff;
  return code === "OP_TIMEOUT" ? [] : [`rank ${culprit}, which was cut off: ${name} (${code}): ${message}`];
}

function judge(cell: Cell, { error, next, nextMs, regroup, later, destroyMs, misuse }: Survivor): string[] {
  const problems: string[] = [];
  const expect = (holds: boolean, otherwise: string) => {
    if (!holds) problems.push(otherwise);
  };
  const { details } = error;
  const kinds: readonly string[] = expectedErrors(cell.fault, cell.mode);
  expect(kinds.includes(kindOf(error)), `${kindOf(error)}: ${error.message}`);
  const ops: readonly string[] = cell.op === "sendRecv" ? ["send", "recv", "coalescing"] : [cell.op];
  expect(
    details?.group === "0" && ops.includes(details.op ?? "") && Number(details.seq) > 0,
    `details ${JSON.stringify(details)}`,
  );
  const peers = details?.peers ?? [];
  if (cell.mode === "await") {
    const isRight = peers.length === 1 && peers[0] === cell.culprit;
    expect(isRight || isMutual(cell, error), `blames [${peers.join(", ")}]: ${error.message}`);
    expect(
      error.message.includes(`rank ${cell.culprit}`) || isMutual(cell, error),
      `does not name the culprit: ${error.message}`,
    );
  } else {
    expect(peers.length > 0 || isUnknown(cell, error), `names no peer: ${error.message}`);
  }
  for (const part of [details?.op ?? cell.op, `#${details?.seq}`, 'group "0"']) {
    expect(error.message.includes(part), `message lacks ${part}: ${error.message}`);
  }
  expect(next?.code === "GROUP_FAILED", `next op: ${next?.code ?? "no error"}`);
  expect(next?.message.includes("newGroup()") === true, `next op has no advice: ${next?.message}`);
  expect(nextMs < 100, `the next op was refused after ${nextMs} ms`);
  expect(regroup === "ok", `the new group: ${regroup}`);
  expect(
    later?.code === "GROUP_FAILED" && (Bun.deepEquals(later.details?.peers, [cell.culprit]) || isMutual(cell, later)),
    `later it blames [${later?.details?.peers}]: ${later?.message}`,
  );
  expect(misuse === undefined, `the emulators report: ${misuse}`);
  expect(destroyMs < 2_000, `destroyProcessGroup took ${destroyMs} ms`);
  return problems;
}

/** Whether a rank that blocks cannot know who is missing: NCCL does not tell, and a stopped rank has called the op too. */
function isUnknown({ backend, fault }: Cell, { message }: ReportedError): boolean {
  return backend === "nccl" && isSilent(fault) && message.includes("all other ranks have called it");
}

/** Whether two ranks of a batch over nccl each wait for a message of the other, as well as for the stopped rank. */
function isMutual({ backend, fault, op }: Cell, { message }: ReportedError): boolean {
  return backend === "nccl" && isSilent(fault) && op === "sendRecv" && message.includes("waited for each other");
}

/** Class and code of an error. */
export function kindOf({ name, code }: ReportedError): string {
  return `${name} ${code}`;
}

/** Whether a survivor names the faulty rank, and no other. */
export function isNamed({ culprit }: Cell, { error }: Survivor): boolean {
  return Bun.deepEquals(error.details?.peers, [culprit]);
}

/** One line of the table: fault, op and mode, then errors, time to them, ranks they name, and the new group. */
export function lineOf({ cell, survivors, errorMs, problems }: CellResult): string {
  const distinct = (texts: readonly string[]) => [...new Set(texts)].join(" ");
  return [
    nameOf(cell).padEnd(50),
    distinct(survivors.map(({ error }) => `${kindOf(error)}`)).padEnd(34),
    `${errorMs} ms`.padStart(8),
    `blamed ${distinct(survivors.map(({ error }) => `[${error.details?.peers?.join(",") ?? ""}]`))}`.padEnd(20),
    `new group ${distinct(survivors.map(({ regroup }) => regroup))}`,
    ...problems.map((problem) => `\n    ! ${problem}`),
  ].join("  ");
}
