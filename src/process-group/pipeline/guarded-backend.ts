import { type OpCall, type OpType, opNames, opTypeOf } from "../../collectives/index.ts";
import { DistBackendError, describe, messageOf, warn, watchReturned } from "../../errors/index.ts";
import type { Backend } from "../../registry/index.ts";
import type { GroupState, Work } from "../../work/index.ts";
import { callUserFunction, userCodeFailure } from "./user-code-failure.ts";

const states: ReadonlySet<unknown> = new Set(["OPEN", "FAILED", "CLOSED"] satisfies GroupState[]);

/**
 * Everything that a group calls and reads on its backend, which may be user code. What that throws becomes a
 * `DistBackendError` that names the method and the backend. Members that a backend in plain JavaScript lacks default to
 * those of the base class.
 */
export class GuardedBackend {
  readonly #backend: Backend;
  readonly #name: string;
  readonly #group: string;
  /** Its last state other than OPEN. */
  #endState: GroupState | undefined;

  /** @param name Name of its plugin. */
  constructor(backend: Backend, name: string, group: string) {
    this.#backend = backend;
    this.#name = name;
    this.#group = group;
  }

  /** Calls or reads something of the backend; `what` names it in errors. */
  tried<T>(what: string, read: (backend: Backend) => T): T {
    const details = { group: this.#group, backend: this.#name };
    return callUserFunction(`${what} of backend "${this.#name}"`, details, () => read(this.#backend));
  }

  get rank(): number {
    return this.tried("rank", ({ rank }) => rank);
  }

  get size(): number {
    return this.tried("size", ({ size }) => size);
  }

  /** @throws DistBackendError if its rank or size is not what it was created for. Plain JavaScript may have neither. */
  requireRankAndSize(rank: number, size: number): void {
    this.#requireNumber("rank", this.rank, rank);
    this.#requireNumber("size", this.size, size);
  }

  #requireNumber(name: string, given: unknown, expected: number): void {
    if (typeof given !== "number" || given === expected) return;
    const text = `create() of backend "${this.#name}" must resolve to a backend whose ${name} is that of the context, ${expected}, got ${given}`;
    throw new DistBackendError(text, { group: this.#group, backend: this.#name });
  }

  get state(): GroupState {
    const state: unknown = this.tried("state", (backend) => backend.state);
    if (state === undefined) return "OPEN";
    if (!states.has(state)) throw this.#stateError(`is not one of ${[...states].join(", ")}, got ${describe(state)}`);
    if (state !== "OPEN") this.#endState = state as GroupState;
    else if (this.#endState !== undefined) throw this.#stateError(`is OPEN after it was ${this.#endState}`);
    return state as GroupState;
  }

  #stateError(fault: string): DistBackendError {
    const text = `group "${this.#group}": state of backend "${this.#name}" ${fault}`;
    return new DistBackendError(text, { group: this.#group, backend: this.#name });
  }

  get inFlight(): number {
    return this.tried("inFlight", ({ inFlight }) => inFlight ?? 0);
  }

  // No closure here, since it is called for every op.
  submit(calls: readonly OpCall[]): readonly Work<void>[] {
    const op = calls[0]?.op;
    const peer = calls[0]?.peer ?? -1;
    try {
      return this.#backend.submit(calls);
    } catch (error) {
      // From before the call, which the backend may have changed.
      throw this.#failureFor("submit()", error, op === undefined ? undefined : opTypeOf({ op, peer }));
    }
  }

  refuse(calls: readonly OpCall[]): readonly Work<void>[] | undefined {
    const [first] = calls;
    const opType = first === undefined ? undefined : opTypeOf(first);
    try {
      return this.#backend.refuse?.(calls);
    } catch (error) {
      throw this.#failureFor("refuse()", error, opType);
    }
  }

  whenFailed(listener: (reason: string) => void): void {
    this.#call("whenFailed()", (backend) => backend.whenFailed?.(listener));
  }

  enableTiming(): void {
    this.#call("enableTiming()", (backend) => backend.enableTiming?.());
  }

  abort(reason: string): void {
    this.#call("abort()", (backend) => backend.abort(reason));
  }

  async drained(): Promise<void> {
    try {
      await this.#backend.drained?.();
    } catch (error) {
      throw this.#failureFor("drained()", error);
    }
  }

  /** What it throws is handled by `closeWithin`. */
  close(): unknown {
    return this.#backend.close();
  }

  /** Calls a method that should return nothing. */
  #call(method: string, call: (backend: Backend) => unknown): void {
    const returned = this.tried(method, call);
    void watchReturned(returned, (error) => {
      warn(`group "${this.#group}": ${method} of backend "${this.#name}" failed: ${messageOf(error)}`);
    });
  }

  #failureFor(method: string, error: unknown, opType?: OpType) {
    const op = opType === undefined ? undefined : opNames[opType];
    const where = `${method} of backend "${this.#name}"${op === undefined ? "" : ` for ${op}`}`;
    return userCodeFailure(where, { group: this.#group, backend: this.#name, ...(op !== undefined && { op }) }, error);
  }
}
