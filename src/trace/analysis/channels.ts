import type { RankTrace, TraceOp } from "../rank-trace.ts";
import type { MemberTrace } from "./group-traces.ts";

/** A message: its send and recv, as far as they are known. */
export interface Message {
  readonly send: TraceOp | undefined;
  readonly recv: TraceOp | undefined;
}

/** The messages from one rank to another with one tag, in order. */
export interface Channel {
  readonly source: number;
  readonly destination: number;
  readonly tag: number;
  readonly messages: readonly Message[];
}

/** Pairs the messages of a group: those of a channel do not overtake each other. */
export function channelsOf(members: ReadonlyMap<number, MemberTrace>): readonly Channel[] {
  const sides = new Map<string, { readonly sends: TraceOp[]; readonly recvs: TraceOp[] }>();
  for (const { messages } of members.values()) {
    for (const op of messages) {
      if (op.message === undefined || op.message.source < 0 || op.message.destination < 0) continue;
      const { source, destination, tag } = op.message;
      const key = `${source} ${destination} ${tag}`;
      const side = sides.get(key) ?? { sends: [], recvs: [] };
      sides.set(key, side);
      if (op.kind === "send") side.sends.push(op);
      else side.recvs.push(op);
    }
  }
  return [...sides].map(([key, { sends, recvs }]) => {
    const [source = -1, destination = -1, tag = 0] = key.split(" ").map(Number);
    const [from, to] = [members.get(source)?.trace, members.get(destination)?.trace];
    return { source, destination, tag, messages: paired(sends, recvs, from, to) };
  });
}

function paired(
  sends: readonly TraceOp[],
  recvs: readonly TraceOp[],
  from: RankTrace | undefined,
  to: RankTrace | undefined,
): readonly Message[] {
  const isNumbered = [...sends, ...recvs].every(({ message }) => (message?.number ?? 0) > 0);
  if (isNumbered) return byNumber(sends, recvs);
  // Without numbers, where older messages are lost on one side the newest cannot be paired.
  if ((from?.dropped ?? 0) > 0 || (to?.dropped ?? 0) > 0) return [];
  const count = Math.max(sends.length, recvs.length);
  return Array.from({ length: count }, (_, i) => ({ send: sends[i], recv: recvs[i] }));
}

function byNumber(sends: readonly TraceOp[], recvs: readonly TraceOp[]): readonly Message[] {
  const numberOf = (op: TraceOp): number => op.message?.number ?? 0;
  const sendOf = new Map(sends.map((op) => [numberOf(op), op]));
  const recvOf = new Map(recvs.map((op) => [numberOf(op), op]));
  const numbers = [...new Set([...sendOf.keys(), ...recvOf.keys()])].sort((a, b) => a - b);
  // Of a side whose older messages were overwritten, those before its oldest one are unknown.
  const known = Math.max(first(sends), first(recvs));
  return numbers.filter((number) => number >= known).map((n) => ({ send: sendOf.get(n), recv: recvOf.get(n) }));

  function first(ops: readonly TraceOp[]): number {
    return ops[0] === undefined ? 0 : numberOf(ops[0]);
  }
}
