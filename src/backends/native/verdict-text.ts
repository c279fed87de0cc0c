import { absenceText, ranksText, ranksTextOn } from "../../errors/index.ts";
import { type NativeFailure, Status } from "../../native/index.ts";
import {
  CREATION,
  type FailureReport,
  type FailureVerdict,
  isMessage,
  mutualWait,
  reportOfPeer,
} from "./failure-report.ts";

/** The part of a message that names the culprits, unless the text does already. */
export function blameText(
  own: number,
  { text, status }: Pick<NativeFailure, "status" | "text">,
  peers: readonly number[],
  verdict: FailureVerdict | undefined,
): string {
  if (!verdict) return "";
  const { cause } = verdict;
  if (cause.kind === "aborted") return otherAborts(verdict, status === Status.ABORTED ? own : cause.rank);
  const mutual = mutualText(verdict);
  if (mutual !== undefined) return `; ${mutual}`;
  if (peers.length === 0) return "";
  const deserted = desertedText(own, peers, verdict);
  if (deserted !== undefined) return `; ${deserted}`;
  const awaited = status === Status.OP_TIMEOUT ? awaitedIn(text) : -1;
  // It waited for a rank that waited itself: that one is not missing.
  const isVictim = awaited >= 0 && !peers.includes(awaited);
  const isThere = ({ rank, called }: FailureReport) => rank === awaited && (isMessage(cause) || called >= cause.seq);
  const waits = isVictim && verdict.reports.some(isThere) ? ", which waited as well" : "";
  return `${waits}${culpritText(own, text, peers, verdict, isVictim)}`;
}

/** Describes a message whose peer waited in a collective that the culprits have not called. */
function desertedText(own: number, peers: readonly number[], { cause, reports }: FailureVerdict): string | undefined {
  const other = isMessage(cause) ? reportOfPeer(cause, reports) : undefined;
  if (other === undefined || isMessage(other) || other.op === CREATION) return undefined;
  const isBehind = (rank: number) => reports.some((each) => each.rank === rank && each.called < other.seq);
  if (!peers.every(isBehind)) return undefined;
  const verb = peers.length > 1 ? "have" : "has";
  return `${ranksTextOn(own, [other.rank])} was at ${other.op} #${other.seq}, which ${ranksTextOn(own, peers)} ${verb} not called`;
}

function culpritText(
  ownRank: number,
  text: string,
  peers: readonly number[],
  verdict: FailureVerdict,
  isVictim: boolean,
): string {
  const { cause } = verdict;
  const nameOf = (rank: number) => ranksTextOn(ownRank, [rank]);
  const ranks = ranksTextOn(ownRank, peers);
  const reports = verdict.reports.filter((report) => peers.includes(report.rank));
  const behind = reports
    .filter(({ called }) => isMessage(cause) || called < cause.seq)
    .map(({ rank, op, seq }) => {
      const was = isMessage(cause) || isMessage({ op }) ? "was" : "was only";
      return op === CREATION ? `; ${nameOf(rank)} has not made the group` : `; ${nameOf(rank)} ${was} at ${op} #${seq}`;
    })
    .join("");
  if (cause.kind === "timeout") {
    if (reports.length === 0) return `; ${absenceText(ownRank, peers)}`;
    if (isVictim && behind === "") return `; the ranks agree on ${ranks} as the cause`;
    return behind === "" && !text.includes(ranksText(peers)) ? `; it waited for ${ranks}` : behind;
  }
  if (cause.kind === "other" || (peers.length === 1 && text.includes(ranksText(peers)))) return "";
  return `; the cause is the loss of ${ranks}`;
}

/** The rank that native code waited for, by what it says of a time-out; -1 if it says none. */
function awaitedIn(text: string): number {
  return Number(/ of waiting for rank (\d+)$/.exec(text)?.[1] ?? -1);
}

/** If several ranks aborted, the reasons of those other than `reported`. */
function otherAborts({ cause, reports }: FailureVerdict, reported: number): string {
  return [cause, ...reports.filter(({ rank, kind }) => kind === "aborted" && rank !== cause.rank)]
    .filter(({ rank }) => rank !== reported)
    .map(({ rank, text }) => `; rank ${rank} also aborted: ${text}`)
    .join("");
}

/** Describes two ranks whose messages waited for each other; undefined for any other failure. */
export function mutualText({ cause, reports }: FailureVerdict): string | undefined {
  const [a, b] = mutualWait(cause, reports) ?? [];
  if (a === undefined || b === undefined) return undefined;
  return `ranks ${a.rank} and ${b.rank} waited for each other, at ${a.op} #${a.seq} and ${b.op} #${b.seq}`;
}

/** What the ranks agree on, if this rank named something else. */
export function agreement(verdict: FailureVerdict, seen: readonly number[], message: string): string {
  const { culprits, cause } = verdict;
  const mutual = mutualText(verdict);
  if (mutual !== undefined) return message.includes(mutual) ? "" : `; ${mutual}`;
  if (cause.kind === "desync")
    return message.includes(cause.text) ? "" : `; the ranks agree on the cause: ${cause.text}`;
  return Bun.deepEquals(culprits, seen) ? "" : `; the ranks agree on ${ranksText(culprits)} as the cause`;
}
