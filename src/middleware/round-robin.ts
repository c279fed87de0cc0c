import { type OpCall, OpType, opTable, opTypeOf } from "../collectives/index.ts";
import { InvalidArgumentError } from "../errors/index.ts";
import type { Submit } from "../registry/index.ts";
import { AllOf, type Work } from "../work/index.ts";

/** Stands for all submits, in place of an index. */
const ALL = -1;

/**
 * Distributes collectives over several submits of the same ranks in turn, so that they overlap on separate connections.
 *
 * A batch takes one turn: all its collectives go to one submit, in the order of the calls. Messages take no turn, since
 * not all ranks have the same ones: they go to the first submit, where their tags match, even from a batch with
 * collectives. A barrier takes no turn either: it runs on all submits. Nor does the second half of a sparse all-reduce,
 * which follows the first.
 *
 * Each submit gets its part of a batch as one batch. If it refuses that, the others may have sent theirs.
 */
export function roundRobin(submits: readonly Submit[]): Submit {
  if (submits.length === 0) {
    throw new InvalidArgumentError("roundRobin: there must be at least one submit", { argument: "submits" });
  }
  let turns = 0;
  let sparse = 0;
  const placeOf = (call: OpCall, turn: number): number => {
    if (opTable[call.op].kind === "message") return 0;
    if (opTypeOf(call) === OpType.BARRIER) return ALL;
    if (call.continuation) return sparse;
    if (call.op === "allReduceSparse") sparse = turn;
    return turn;
  };
  return (calls) => {
    const turn = turns % submits.length;
    if (calls.some(takesTurn)) turns++;
    const places = calls.map((call) => placeOf(call, turn));
    const [place = 0] = places;
    const only = places.every((each) => each === place) ? submits[place] : undefined;
    return only === undefined ? spread(calls, places, submits) : only(calls);
  };
}

function takesTurn(call: OpCall): boolean {
  return opTable[call.op].kind !== "message" && opTypeOf(call) !== OpType.BARRIER && !call.continuation;
}

/** Gives each submit its calls of a batch. */
function spread(calls: readonly OpCall[], places: readonly number[], submits: readonly Submit[]): Work<void>[] {
  const parts: Work<void>[][] = calls.map(() => []);
  for (const [i, submit] of submits.entries()) {
    const isOwn = (place: number | undefined): boolean => place === ALL || place === i;
    const own = calls.filter((_, call) => isOwn(places[call]));
    if (own.length === 0) continue;
    const works = submit(own).values();
    for (const [call, place] of places.entries()) if (isOwn(place)) parts[call]?.push(...works.take(1));
  }
  return calls.map((call, i) => {
    const [work, ...more] = parts[i] ?? [];
    return work !== undefined && more.length === 0 ? work : new AllOf(parts[i] ?? [], { opType: opTypeOf(call) });
  });
}
