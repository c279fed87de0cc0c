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

/** A call of a batch. */
interface Entry {
  readonly pipeline: Pipeline;
  readonly call: OpCall;
  readonly work: DeferredWork;
}

/** The ops called within one function, to be submitted together. */
export class Coalescing {
  readonly #entries: Entry[] = [];
  /** All ops called, including refused ones. */
  readonly #called: Work<unknown>[] = [];
  #refusal: DistError | undefined;
  #ahead: (() => Work<unknown>) | undefined;

  /** Adds a call. Its Work can be waited for once the batch was submitted. */
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

  /** Records an op that was called, and the error of the first refused one. */
  note(work: Work<unknown>): void {
    this.#called.push(work);
    this.#refusal ??= failureOf(work);
  }

  /** Why nothing may be submitted. */
  get refusal(): DistError | undefined {
    return this.#refusal;
  }

  /** Throws InvalidArgumentError if an op writes to memory of another one. */
  requireDisjoint(): void {
    if (this.#entries.length > 1) requireDisjointOps("coalescing", this.#entries.map(memoryOf));
  }

  /**
   * Throws InvalidArgumentError if ops on one device are in different streams: they may become one op, which starts
   * after one stream, and whether they do must not depend on streams, which other ranks do not see.
   */
  requireOneStream(): void {
    const handleOf = ({ stream }: OpCall): number => stream?.handle ?? 0;
    for (const entries of Map.groupBy(this.#entries, ({ pipeline }) => pipeline).values()) {
      const [first, ...others] = entries.map(({ call }) => call);
      const other = others.find((call) => first !== undefined && handleOf(call) !== handleOf(first));
      if (other === undefined) continue;
      const { type, index } = other.device;
      throw new InvalidArgumentError(
        `coalescing: all ops on ${type}:${index} have to be in one stream; let it wait for the others before`,
        { op: "coalescing", argument: "stream" },
      );
    }
  }

  /** Whether there is any op other than messages. */
  get hasCollectives(): boolean {
    return this.#entries.some(({ call }) => opTable[call.op].kind !== "message");
  }

  /** Whether all ops called are messages, and there is at least one. */
  get isOfMessages(): boolean {
    return this.#called.length > 0 && this.#called.every(({ opType }) => isMessage(opType));
  }

  /** All ops called. */
  get works(): readonly Work<unknown>[] {
    return this.#called;
  }

  /** The Works of the calls. */
  get pending(): readonly Work<unknown>[] {
    return this.#entries.map(({ work }) => work);
  }

  /** The batch waits for other ops: the one that `ahead` returns has to end first. */
  waitFor(ahead: () => Work<unknown>): void {
    this.#ahead = ahead;
  }

  /** Fails all ops, none of which was submitted, and makes them parts of `whole`. */
  discard(reason: DistError, whole: Work<unknown>): void {
    for (const work of this.#called) joinWhole(work, whole);
    for (const { work } of this.#entries) discardWork(work, reason);
  }

  /** Submits the ops in order, one batch per device; ops that can be merged are. */
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

/** Groups adjacent calls that the backend supports as one op. */
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

/** Ranks may pass different time-outs, which must not change what is merged: the longest applies. */
function mergedCall(run: readonly Entry[]): OpCall {
  const calls = run.map(({ call }) => call);
  const [first] = calls;
  if (first === undefined) throw new RangeError("an empty run");
  const { coalesced } = opTable[first.op];
  if (calls.length === 1 || coalesced === undefined) return isMessage(opTypeOf(first)) ? batched(first) : first;
  const timeoutMs = Math.max(...calls.map((call) => call.timeoutMs));
  const inputs = calls.flatMap((call) => call.inputs);
  const outputs = calls.flatMap((call) => call.outputs);
  return opCall(coalesced, first.device, inputs, outputs, timeoutMs, {
    reduceOp: first.reduceOp,
    stream: first.stream,
    callSite: first.callSite,
  });
}

const batched = (call: OpCall): OpCall => ({ ...call, batched: true });
