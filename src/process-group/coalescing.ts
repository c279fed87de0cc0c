import { isMessage, type OpType, type ReduceOp, requireDisjointOps } from "../collectives/index.ts";
import type { DistError } from "../errors/index.ts";
import type { Backend, OpName } from "../registry/index.ts";
import type { DType, TensorView } from "../tensor/index.ts";
import { failureOf, joinWhole, Work } from "../work/index.ts";
import { type Mergeable, OpRecorder, type RecordedOp, type RecordedWork } from "./op-recorder.ts";

/** Tells whether the backend of a kind of device implements an op. */
export type Capable = (op: OpName, view: TensorView, reduceOp: ReduceOp | undefined) => boolean;

/** The ops called within one function, to be submitted together. */
export class Coalescing {
  readonly #ops: RecordedOp[] = [];
  readonly #recorders = new Map<Backend, OpRecorder>();
  /** All that was called, the refused ops included. */
  readonly #called: Work<unknown>[] = [];
  #refusal: DistError | undefined;

  /** What stands for a backend meanwhile. */
  recorderOf(backend: Backend): Backend {
    const found = this.#recorders.get(backend) ?? new OpRecorder(backend, this.#ops);
    this.#recorders.set(backend, found);
    return found;
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
    if (this.#ops.length > 1)
      requireDisjointOps(
        "coalescing",
        this.#ops.map(({ memory }) => memory),
      );
  }

  /** Whether there is any op beside messages. */
  get hasCollectives(): boolean {
    return this.#ops.some(({ work }) => !isMessage(work.opType));
  }

  /** Whether all that was called are messages, of which there is at least one. */
  get isOfMessages(): boolean {
    return this.#called.length > 0 && this.#called.every(({ opType }) => isMessage(opType));
  }

  get works(): RecordedWork[] {
    return this.#ops.map(({ work }) => work);
  }

  /** Fails all ops, none of which was submitted, and makes them parts of the whole. */
  discard(reason: unknown, whole: Work<unknown>): void {
    for (const work of this.#called) joinWhole(work, whole);
    for (const { work } of this.#ops) {
      joinWhole(work, whole);
      work.follow(Work.rejected(reason, { opType: work.opType }));
    }
  }

  /** Submits the ops in their order; what can be one op becomes one. */
  submit(capable: Capable): void {
    for (let i = 0; i < this.#ops.length; ) {
      const run = runAt(this.#ops, i);
      const [first] = run;
      if (first?.mergeable !== undefined && run.length > 1 && canMerge(first.mergeable, capable)) {
        submitAsOne(first, run);
      } else {
        for (const { work, start } of run) work.follow(begun(work.opType, start));
      }
      i += run.length;
    }
  }
}

/** The ops from `i` on that are of one kind; a single one if it is of a kind of which no list can be made. */
function runAt(ops: readonly RecordedOp[], i: number): RecordedOp[] {
  const first = ops[i];
  if (first === undefined) return [];
  let end = i + 1;
  while (end < ops.length && alike(first, ops[end])) end++;
  return ops.slice(i, end);
}

function alike(one: RecordedOp, other: RecordedOp | undefined): boolean {
  const a = one.mergeable;
  const b = other?.mergeable;
  if (a === undefined || b === undefined) return false;
  const dtype = (each: Mergeable): DType => each.input.dtype;
  return one.backend === other?.backend && a.op === b.op && a.reduceOp === b.reduceOp && dtype(a) === dtype(b);
}

function canMerge({ op, input, reduceOp }: Mergeable, capable: Capable): boolean {
  return capable(`${op}Coalesced`, input, reduceOp);
}

/** Ranks may have given different time-outs, which must not change what is merged: the longest counts. */
function submitAsOne({ backend, mergeable, work }: RecordedOp, run: readonly RecordedOp[]): void {
  const timeoutMs = Math.max(...run.map((op) => op.timeoutMs));
  const parts = run.flatMap((op) => op.mergeable ?? []);
  const inputs = parts.map(({ input }) => input);
  const outputs = parts.flatMap(({ output }) => output ?? []);
  const op = mergeable?.reduceOp;
  const whole = begun(work.opType, () => {
    if (op === undefined) return backend.allGatherIntoTensorCoalesced(outputs, inputs, { timeoutMs });
    if (outputs.length === 0) return backend.allReduceCoalesced(inputs, { op, timeoutMs });
    return backend.reduceScatterTensorCoalesced(outputs, inputs, { op, timeoutMs });
  });
  run.forEach(({ work }, i) => {
    work.follow(whole, (outputs[i] ?? inputs[i])?.source);
  });
}

/** A backend may throw where it should have given a rejected Work; the ops after it still have to end. */
function begun(opType: OpType, start: () => Work<unknown>): Work<unknown> {
  try {
    return start();
  } catch (error) {
    return Work.rejected(error, { opType });
  }
}
