import type { ReportedError } from "bun-c10d/testing";
import type { Call } from "./calls.ts";
import { type Cell, EARLIER_OPS, endsJob, isSilent } from "./cell.ts";
import type { RankReport } from "./report.ts";
import { caseOf, type Step } from "./ways.ts";

/** How soon after the calls, or after the time-out of an op, an error must arrive, on a busy machine. */
const SOON_MS = 4_000;
/** The end of all messages that name two calls, except those about the parts of an all-to-all. */
export const ADVICE =
  ". All ranks must call the same collectives in the same order, with the same dtypes, sizes, reduce ops and roots";

/** What is wrong with the reports of the ranks of a cell. */
export function judge(cell: Cell, reports: readonly (RankReport | undefined)[]): string[] {
  const problems: string[] = [];
  for (let rank = 0; rank < cell.worldSize; rank++) {
    const report = reports[rank];
    if (report !== undefined) problems.push(...judgeRank(cell, rank, report).map((text) => `rank ${rank}: ${text}`));
    else if (!(endsJob(cell) && rank === cell.odd)) problems.push(`rank ${rank} did not complete`);
  }
  // The first rank to call times out first, which ends the op on all of them.
  const longest = Math.max(...reports.map((report) => report?.ms ?? 0));
  if (isSilent(caseOf(cell.name)) && longest < cell.timeoutMs - 100)
    problems.push(`the time-out came after ${longest.toFixed(0)} ms`);
  // A rank that blocks cannot ask the others before it throws, but in an all-to-all every rank knows all parts.
  const knowsAll = caseOf(cell.name).way === "splits" && cell.place.waitsForNeeded !== true;
  if (cell.mode === "await" || knowsAll) {
    const said = new Set(reports.flatMap((report, rank) => (report && isWitness(cell, rank) ? [saidOf(report)] : [])));
    if (said.size > 1) problems.push(`the ranks disagree: ${[...said].join(" | ")}`);
  }
  return problems;
}

/** Whether the rank must describe the failure as the others do. */
function isWitness(cell: Cell, rank: number): boolean {
  return caseOf(cell.name).end === "desync" ? isConcerned(cell, rank) : rank !== cell.odd;
}

function saidOf({ ends, next }: RankReport): string {
  const error = [...ends, next].find((each) => each !== undefined && each.code !== "INVALID_ARGUMENT");
  if (error?.code === "DESYNC") return withoutPlace(error.message);
  return `${kindOf(error)} [${error?.details?.peers}]`;
}

/** The message without the op, its number, its group and the rank, and without where it was called. */
export function withoutPlace(message: string): string {
  return message
    .replace(/; called at \S+ on rank \d+(?:, at \S+ on rank \d+)*$/, "")
    .replace(/^\w+ #\d+ on group "[^"]*" \([^)]*\): (rank \d+: (?=timed out))?/, "");
}

function judgeRank(cell: Cell, rank: number, report: RankReport): string[] {
  const { end } = caseOf(cell.name);
  const problems = [...report.problems];
  const expect = (holds: boolean, otherwise: string): void => {
    if (!holds) problems.push(otherwise);
  };
  const steps = stepsOf(cell, rank);
  const closed = steps.some(({ kind }) => kind === "close");
  const failing = steps.findIndex(({ kind }) => kind === "call" || kind === "elsewhere");
  for (const [i, step] of steps.entries()) {
    const error = report.ends[i];
    if (!("call" in step)) continue;
    if (step.kind === "refused" || step.kind === "refused in a batch") {
      expect(error?.code === "INVALID_ARGUMENT", `${step.kind}: ${kindOf(error)}: ${error?.message}`);
    } else if (i > failing) {
      expect(error !== undefined || isAlone(cell, rank, step.call), "an op after the failure succeeded");
    } else if (error === undefined) {
      expect(mayGoOn(cell, rank), "it succeeded");
    } else {
      problems.push(...judgeError(cell, rank, report.group, error));
    }
  }
  const limit = isSilent(caseOf(cell.name)) ? cell.timeoutMs : 0;
  if (failing >= 0) {
    expect(report.ms < limit + SOON_MS, `it took ${report.ms.toFixed(0)} ms`);
  }
  if (closed) return problems;
  if (failing >= 0 && steps[failing]?.kind === "call") {
    const learnsNow =
      report.ends[failing] === undefined && saysWhy(cell, report.next) && report.next?.code === "DESYNC";
    expect(
      learnsNow || report.next?.code === "GROUP_FAILED",
      `next op: ${kindOf(report.next)}: ${report.next?.message}`,
    );
    expect(
      learnsNow || report.next?.message.includes("newGroup()") === true,
      `the next op has no advice: ${report.next?.message}`,
    );
  }
  expect(report.state === "FAILED", `the group is ${report.state}`);
  const { later } = report;
  // A rank that made no call in the group learns of the failure from its next one, with any error.
  const absent = steps.every(({ kind }) => kind !== "call");
  const peers = later?.details?.peers ?? [];
  expect(later !== undefined && (absent || isRight(cell, peers)), `later it blames [${peers}]: ${later?.message}`);
  if (end === "desync") {
    expect(later?.code === "GROUP_FAILED", `later: ${kindOf(later)}`);
    expect(saysWhy(cell, later), `later it does not say why: ${later?.message}`);
  }
  return problems;
}

/** Whether these are the ranks to blame, once the ranks that made the call have agreed. */
function isRight(cell: Cell, peers: readonly number[]): boolean {
  const { end } = caseOf(cell.name);
  if (end === "desync") return peers.length === 0;
  const missing = end === "others missing" ? othersOf(cell) : [cell.odd];
  return peers.length > 0 && peers.every((peer) => missing.includes(peer));
}

function othersOf({ odd, worldSize }: Pick<Cell, "odd" | "worldSize">): number[] {
  return Array.from({ length: worldSize }, (_, rank) => rank).filter((rank) => rank !== odd);
}

function judgeError(cell: Cell, rank: number, group: string, error: ReportedError): string[] {
  const { odd, mode, worldSize, timeoutMs, place } = cell;
  const { end } = caseOf(cell.name);
  const { name, code, details, message } = error;
  const problems: string[] = [];
  const expect = (holds: boolean, otherwise: string): void => {
    if (!holds) problems.push(`${otherwise}: ${name} ${code} [${details?.peers}] ${message}`);
  };
  const peers = details?.peers ?? [];
  const elsewhere = stepsOf(cell, rank).some(({ kind }) => kind === "elsewhere");
  const seq = elsewhere ? 1 : EARLIER_OPS + 1;
  expect(details?.rank === rank && details.seq === seq, `details ${details?.group} ${details?.seq} ${details?.rank}`);
  const where = elsewhere ? `"\\d+"` : `"${group}"`;
  const start = `^${details?.op} #${seq} on group ${where} \\(${place.backend}, rank ${rank} of ${worldSize}\\): `;
  expect(new RegExp(start).test(message), `the message does not start with ${start}`);
  const text = withoutPlace(message);
  // A rank that blocks in a group of more than two may first see the one leave that timed out first.
  const certain = mode === "await" || worldSize === 2;
  switch (end) {
    case "desync":
      expect(expectedKinds(cell).includes(kindOf(error)), "wrong kind");
      expect(peers.length === 0, "blames a rank");
      expect(expectedTexts(cell).includes(text), `expected ${expectedTexts(cell).join(" or ")}`);
      break;
    case "odd lost": {
      expect(kindOf(error) === "DistNetworkError PEER_LOST", "wrong kind");
      expect(certain ? Bun.deepEquals(peers, [odd]) : peers.length > 0, "blames another rank");
      expect(!certain || isNamed(odd, text), "does not name the rank");
      break;
    }
    default: {
      const isConsequence = !certain && kindOf(error) === "DistNetworkError PEER_LOST";
      expect(expectedKinds(cell).includes(kindOf(error)) || isConsequence, "wrong kind");
      // For a rank on the same host, UCC reports that the op timed out there.
      const says = [`timed out after ${timeoutMs} ms`, ...(place.backend === "ucc" ? ["an op timed out on rank"] : [])];
      expect(!certain || says.some((part) => text.includes(part)), "does not state the time-out");
      // When several are missing, a native library knows only the one that it is waiting for.
      const missing = rank === odd ? othersOf(cell) : [odd];
      const named = peers.length > 0 && peers.every((peer) => missing.includes(peer) && isNamed(peer, text));
      expect(named || (!certain && peers.length > 0 && !peers.includes(rank)), `does not blame [${missing}]`);
    }
  }
  return problems;
}

/** Whether the rank sees that two differ; if it knows only its own exchanges, a third rank may find nothing wrong. */
function isConcerned(cell: Cell, rank: number): boolean {
  if (caseOf(cell.name).end !== "desync" || cell.place.waitsForNeeded !== true) return true;
  return expectedTexts(cell).some((text) => text.includes(`rank ${rank} called`));
}

/** Whether the rank's own op may succeed, so that the rank learns of the difference from the next one. */
function mayGoOn(cell: Cell, rank: number): boolean {
  if (caseOf(cell.name).end !== "desync") return false;
  if (!isConcerned(cell, rank)) return true;
  return isAlone(cell, rank, madeBy(cell, rank).call);
}

/** Whether the rank waits in the call for no rank whose call differs from its own. */
function isAlone({ place, odd, worldSize, ...cell }: Cell, rank: number, { needs }: Call): boolean {
  if (place.waitsForNeeded !== true || needs === undefined) return false;
  const differing = rank === odd ? othersOf({ odd, worldSize }) : [odd];
  return !differing.some((other) => needs(rank, other, elementsOf(cell)));
}

function saysWhy(cell: Cell, error: ReportedError | undefined): boolean {
  return expectedTexts(cell).some((text) => error?.message.includes(text) === true);
}

/** Class and code of the errors that a rank may get if it can ask the others. */
export function expectedKinds({ name }: Cell): readonly string[] {
  switch (caseOf(name).end) {
    case "desync":
      return ["DistBackendError DESYNC"];
    case "odd lost":
      return ["DistNetworkError PEER_LOST"];
    default:
      return ["DistTimeoutError OP_TIMEOUT"];
  }
}

export function kindOf(error: ReportedError | undefined): string {
  return error === undefined ? "no error" : `${error.name} ${error.code}`;
}

function isNamed(rank: number, text: string): boolean {
  return new RegExp(`\\branks? (\\d+, )*${rank}\\b`).test(text);
}

export function stepsOf({ name, odd }: Cell, rank: number): readonly Step[] {
  const { usual, odd: oddSteps } = caseOf(name);
  return rank === odd ? oddSteps : usual;
}

/** Possible messages of a cell with calls that differ: which of the other ranks is named varies. */
export function expectedTexts(cell: Cell): string[] {
  const { worldSize, odd } = cell;
  const texts: string[] = [];
  for (let other = 0; other < worldSize; other++) {
    if (other === odd) continue;
    const [low, high] = [Math.min(other, odd), Math.max(other, odd)];
    texts.push(...mismatches(cell, low, high));
  }
  return texts;
}

function elementsOf({ bytes }: Pick<Cell, "bytes">): number {
  return Math.max(bytes / 4, 1);
}

interface Made {
  readonly call: Call;
  /** Calls that the rank refused before this one. */
  readonly refused: number;
}

function madeBy(cell: Cell, rank: number): Made {
  const steps = stepsOf(cell, rank);
  const at = steps.findIndex(({ kind }) => kind === "call");
  const step = steps[at];
  if (step === undefined || !("call" in step)) throw new Error("a rank without a call has nothing to compare");
  return { call: step.call, refused: at };
}

function mismatches(cell: Cell, low: number, high: number): string[] {
  const { worldSize: size } = cell;
  const n = elementsOf(cell);
  const [a, b] = [madeBy(cell, low), madeBy(cell, high)];
  const [first, second] = [a, b].map(({ call }) => call.text(n, size));
  const [at, then] = [a, b].map(({ refused }) => ` as collective #${EARLIER_OPS + 1 + refused}`);
  const text = `rank ${low} called ${first}${at}, rank ${high} called ${second}`;
  if (a.refused !== b.refused) {
    const more = Math.abs(a.refused - b.refused);
    const [ahead, behind] = a.refused > b.refused ? [low, high] : [high, low];
    const calls = more === 1 ? "1 call" : `${more} calls`;
    return [`${text}${then}: rank ${ahead} has refused ${calls} more than rank ${behind}${ADVICE}`];
  }
  if (first !== second) return [`${text}${ADVICE}`];
  const [of, with_] = [a.call.parts, b.call.parts];
  if (of === undefined || with_ === undefined) return [`${text} with tensors of other sizes${ADVICE}`];
  const directions = [
    { from: low, to: high, sent: of.sent(n, low, high, size), expected: with_.expected(n, high, low, size) },
    { from: high, to: low, sent: with_.sent(n, high, low, size), expected: of.expected(n, low, high, size) },
  ];
  return directions
    .filter(({ sent, expected }) => sent !== expected)
    .map(
      ({ from, to, sent, expected }) =>
        `${text}, but rank ${from} sends float32[${sent}] to rank ${to}, which expects float32[${expected}]`,
    );
}
