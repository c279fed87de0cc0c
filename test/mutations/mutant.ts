import {
  Backend,
  type BackendContext,
  type GroupState,
  type OpCall,
  type OpName,
  type Submit,
  type Work,
} from "bun-c10d";

/** Puts a deliberate bug into a backend. */
export type Mutation = (inner: Backend, context: BackendContext) => Backend;

/** A backend that forwards everything to another one, except what a mutation changes. */
export class Mutant extends Backend {
  override readonly name = "fake";
  readonly #submit: Submit;

  constructor(
    protected readonly inner: Backend,
    submit: Submit = (calls) => inner.submit(calls),
  ) {
    super(inner.rank, inner.size);
    this.#submit = submit;
  }

  override get capabilities() {
    return this.inner.capabilities;
  }

  override get state(): GroupState {
    return this.inner.state;
  }

  override get inFlight(): number {
    return this.inner.inFlight;
  }

  override submit(calls: readonly OpCall[]): readonly Work<void>[] {
    return this.#submit(calls);
  }

  override abort(reason: string): void {
    this.inner.abort(reason);
  }

  override drained(): Promise<void> {
    return this.inner.drained();
  }

  override close(): Promise<void> {
    return this.inner.close();
  }
}

/** Makes the backend execute a different call. */
export function changing(ops: readonly OpName[], change: (call: OpCall, size: number) => Partial<OpCall>): Mutation {
  return (inner) =>
    new Mutant(inner, (calls) =>
      inner.submit(calls.map((call) => (ops.includes(call.op) ? { ...call, ...change(call, inner.size) } : call))),
    );
}

/** Replaces the backend's Work. */
export function replacing(op: OpName, replace: (work: Work<void>) => Work<void>): Mutation {
  return (inner) =>
    new Mutant(inner, (calls) => inner.submit(calls).map((work, i) => (calls[i]?.op === op ? replace(work) : work)));
}

/** Makes an op overwrite its inputs when it has ended. */
export function spoilingInputs(op: OpName): Mutation {
  return (inner) =>
    new Mutant(inner, (calls) => {
      const works = inner.submit(calls);
      for (const [i, call] of calls.entries()) {
        if (call.op !== op) continue;
        const written = new Set(call.outputs.map(({ source }) => source));
        const read = call.inputs.filter(({ source }) => !written.has(source));
        works[i]?.whenEnded(() => {
          for (const { data } of read) {
            if (data !== undefined) new Uint8Array(data.buffer, data.byteOffset, data.byteLength).fill(0);
          }
        });
      }
      return works;
    });
}
