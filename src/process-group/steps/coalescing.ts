import {
  isMessage,
  type MemoryUse,
  type OpCall,
  opCall,
  opNames,
  opTable,
  opTypeOf,
  requireDisjointOps,
} from "../../collectives/index.ts";
import { type DistError, InvalidArgumentError } from "../../errors/index.ts";
import { DeferredWork, discardWork, failureOf, joinWhole, type Work } from "../../work/index.ts";
import type { Pipeline } from "../pipeline/pipeline.ts";

/** A call that is submitted with others. */
interface Entry {
  readonly pipeline: Pipeline;
  readonly call: OpCall;
  readonly work: DeferredWork;
}

/** The ops called within one function, to be submitted together. */
export class Coalescing {
  readonly #entries: Entry[] = [];
  /** All that was called, the refused ops included. */
  readonly #called: Work<unknown>[] = [];
  #refusal: DistError | undefined;
  #ahead: (() => Work<unknown>) | undefined;

  /** Adds a call. The Work that stands for it can be waited for once the whole was handed over. */
  add(pipeline: Pipeline, call: OpCall): Work<void> {
    const opType = opTypeOf(call);
    const work = new DeferredWork({ opType }, () => {
      if (this.#ahead !== undefined) return this.#ahead();
      throw new InvalidArgumentError(
        `${opNames[opType]} is not submitted before the function given to coalescing() returns; wait for the Work of coalescing()`,
        { code: "NOT_SUBMITTED" },
      );
    });
    this.#entries.push({ pipeline, call, work });
    return work;
  }

  /** Notes an op that was called; the error of the first that was refused. */
  note(work: Work<unknown>): void {
    this.#called.push(work);
    this.#refusal ??= failureOf(work);
  }

  /** Why nothing may be submitted. */
  get refusal(): DistError | undefined {
    return this.#refusal;
  }

  /** Throws InvalidArgumentError if one of the ops writes to memory of another one. */
  requireDisjoint(): void {
    if (this.#entries.length > 1) requireDisjointOps("coalescing", this.#entries.map(memoryOf));
  }

  /** Whether there is any op beside messages. */
  get hasCollectives(): boolean {
    return this.#entries.some(({ call }) => opTable[call.op].kind !== "message");
  }

  /** Whether all that was called are messages, of which there is at least one. */
  get isOfMessages(): boolean {
    return this.#called.length > 0 && this.#called.every(({ opType }) => isMessage(opType));
  }

  /** All that was called. */
  get works(): readonly Work<unknown>[] {
    return this.#called;
  }

  /** What stands for the calls. */
  get pending(): readonly Work<unknown>[] {
    return this.#entries.map(({ work }) => work);
  }

  /** The whole waits for others: the op that `ahead` gives has to end first. */
  waitFor(ahead: () => Work<unknown>): void {
    this.#ahead = ahead;
  }

  /** Fails all ops, none of which was submitted, and makes them parts of the whole. */
  discard(reason: DistError, whole: Work<unknown>): void {
    for (const work of this.#called) joinWhole(work, whole);
    for (const { work } of this.#entries) discardWork(work, reason);
  }

  /** Submits the ops, those of each device as one batch in their order; what can be one op becomes one. */
  submit(): void {
    for (const [pipeline, entries] of Map.groupBy(this.#entries, (entry) => entry.pipeline)) {
      const runs = runsOf(entries);
      const works = pipeline.submit(runs.map(mergedCall));
      for (const [i, run] of runs.entries()) {
        const work = works[i];
        if (work !== undefined) for (const entry of run) entry.work.follow(work);
      }
    }
  }
}

function memoryOf({ call }: Entry): MemoryUse {
  return { op: opNames[opTypeOf(call)], written: call.outputs, read: call.inputs };
}

/** Neighbours that the backend takes as one op are together. */
function runsOf(entries: readonly Entry[]): Entry[][] {
  const runs: Entry[][] = [];
  for (const entry of entries) {
    const run = runs.at(-1);
    const [first] = run ?? [];
    if (run !== undefined && first !== undefined && canMerge(first, entry)) run.push(entry);
    else runs.push([entry]);
  }
  return runs;
}

function canMerge({ pipeline, call: a }: Entry, { call: b }: Entry): boolean {
  const { coalesced } = opTable[a.op];
  const dtype = dtypeOf(a);
  if (coalesced === undefined || coalesced === "refused" || dtype === undefined) return false;
  if (a.op !== b.op || a.reduceOp !== b.reduceOp || dtype !== dtypeOf(b)) return false;
  return pipeline.table.has(coalesced, dtype, a.reduceOp);
}

const dtypeOf = ({ inputs, outputs }: OpCall) => (inputs[0] ?? outputs[0])?.dtype;

/** Ranks may have given different time-outs, which must not change what is merged: the longest counts. */
function mergedCall(run: readonly Entry[]): OpCall {
  const calls = run.map(({ call }) => call);
  const [first] = calls;
  if (first === undefined) throw new RangeError("an empty run");
  const { coalesced } = opTable[first.op];
  if (calls.length === 1 || coalesced === undefined) return first;
  const timeoutMs = Math.max(...calls.map((call) => call.timeoutMs));
  const inputs = calls.flatMap((call) => call.inputs);
  const outputs = calls.flatMap((call) => call.outputs);
  return opCall(coalesced, first.device, inputs, outputs, timeoutMs, { reduceOp: first.reduceOp });
}
