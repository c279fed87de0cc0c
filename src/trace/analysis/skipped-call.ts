import type { TraceCall } from "../rank-trace.ts";
import { opText, ranksOf } from "../text/op-text.ts";
import type { GroupTraces } from "./group-traces.ts";
import { differences, type Side } from "./signature.ts";

/** Calls that are compared to find out which side is a call ahead. */
const COMPARED_CALLS = 16;

/**
 * A rank that left out a collective, or made one too many, makes the others' calls one place earlier or later. That the
 * right side left one out looks the same as that the left one made one too many: the majority decides, if there is one.
 */
export function skippedText(
  members: GroupTraces["members"],
  seq: number,
  left: Side,
  right: Side,
  isTie: boolean,
): string {
  const [ofLeft, ofRight] = [left, right].map((side) => callsFrom(members, side, seq));
  if (ofLeft === undefined || ofRight === undefined) return "";
  const [who, others] = [ranksOf(right.ranks), ranksOf(left.ranks)];
  const [first, second] = [opText(left.op), opText(right.op)];
  const isLeftAhead = areSame(ofLeft.slice(1), ofRight);
  const isRightAhead = areSame(ofRight.slice(1), ofLeft);
  if (isSwap(ofLeft, ofRight)) {
    return ` It looks as if the ranks called ${first} and ${second} in a different order.`;
  }
  if (isLeftAhead && isRightAhead && isTie) {
    return ` It looks as if ${others} or ${who} left out a call, or made one too many.`;
  }
  if (isLeftAhead && isTie) {
    return ` It looks as if ${who} left out ${first}, or ${others} made one call too many: the next call of ${others} is that of ${who}.`;
  }
  if (isRightAhead && isTie) {
    return ` It looks as if ${others} left out ${second}, or ${who} made one call too many: the next call of ${who} is that of ${others}.`;
  }
  if (isLeftAhead) return ` It looks as if ${who} left out ${first}: the next call of the others is the same.`;
  if (isRightAhead)
    return ` It looks as if ${who} made one call too many, ${second}: the next one is that of the others.`;
  return "";
}

/** What the ranks of a side called from a number on, as far as one of them has a dump. */
function callsFrom(members: GroupTraces["members"], { ranks, op }: Side, seq: number): readonly TraceCall[] {
  const rank = ranks.find((each) => members.has(each));
  const collectives = rank === undefined ? undefined : members.get(rank)?.collectives;
  const calls: TraceCall[] = [op];
  for (let i = 1; i < COMPARED_CALLS; i++) {
    const next = collectives?.get(seq + i);
    if (next === undefined) break;
    calls.push(next);
  }
  return calls;
}

/** Whether two calls change places, and those after them, if there are any, are the same. */
function isSwap([first, second, ...rest]: readonly TraceCall[], [one, two, ...others]: readonly TraceCall[]): boolean {
  if (first === undefined || second === undefined || !isSame(first, two) || !isSame(second, one)) return false;
  return rest.length === 0 || others.length === 0 || areSame(rest, others);
}

/** Whether calls are the same, as far as both are known; one at least has to be. */
function areSame(left: readonly TraceCall[], right: readonly TraceCall[]): boolean {
  const count = Math.min(left.length, right.length);
  return count > 0 && left.slice(0, count).every((op, i) => isSame(op, right[i]));
}

const isSame = (a: TraceCall, b: TraceCall | undefined): boolean => b !== undefined && differences(a, b).length === 0;
