import { NO_TENSORS, type OpCall, OpType, opCall, opTable, opTypeOf } from "../../collectives/index.ts";
import { DistBackendError, DistError, describe, InvalidArgumentError, messageOf } from "../../errors/index.ts";
import type { Submit } from "../../registry/index.ts";
import { CPU, type Device, type TensorView } from "../../tensor/index.ts";
import { Work } from "../../work/index.ts";
import { type CallCheck, isOpName, viewFault } from "./call-check.ts";

/** The fields while no call is recorded. */
const NO_CALL: OpCall = opCall("refused", CPU, NO_TENSORS, NO_TENSORS, Number.POSITIVE_INFINITY);

/** A call as passed to a middleware, so that changes in place are detected. */
class GivenCall {
  call: OpCall | undefined;
  #fields = NO_CALL;

  record(call: OpCall): void {
    this.#fields = { ...call };
    this.call = call;
  }

  /** Whether fields that its caller still uses have become invalid. */
  get isCorrupted(): boolean {
    const call = this.call as OpCall;
    const { op, inputs, outputs } = this.#fields;
    return (
      (call.op !== op && !isOpName(call.op)) ||
      (call.inputs !== inputs && !Array.isArray(call.inputs)) ||
      (call.outputs !== outputs && !Array.isArray(call.outputs))
    );
  }

  get isCollective(): boolean {
    return opTable[this.#fields.op].kind === "collective";
  }

  /** Whether `call` is this call, unchanged and with valid views. */
  isStill(call: OpCall | undefined): boolean {
    return (
      call !== undefined &&
      call === this.call &&
      areSame(call, this.#fields) &&
      areSound(call.inputs) &&
      areSound(call.outputs)
    );
  }

  /** Undoes changes in place, since its caller still uses the call. */
  restore(): void {
    const { call } = this;
    if (call !== undefined && !this.isStill(call)) Object.assign(call, this.#fields);
  }

  /** Releases the tensors. */
  forget(): void {
    this.call = undefined;
    this.#fields = NO_CALL;
  }
}

/**
 * Whether all fields of two calls are the same. Written out, since a loop over names takes several times as long. The
 * type tracks the fields left to compare, so this does not compile if one is missing.
 */
function areSame(a: OpCall, b: OpCall): boolean {
  const left = "any" as keyof OpCall;
  return (
    isSame(left, "id", a.id, b.id) &&
    isSame(left, "op", a.op, b.op) &&
    isSame(left, "device", a.device, b.device) &&
    isSame(left, "inputs", a.inputs, b.inputs) &&
    isSame(left, "outputs", a.outputs, b.outputs) &&
    isSame(left, "reduceOp", a.reduceOp, b.reduceOp) &&
    isSame(left, "root", a.root, b.root) &&
    isSame(left, "peer", a.peer, b.peer) &&
    isSame(left, "tag", a.tag, b.tag) &&
    isSame(left, "batched", a.batched, b.batched) &&
    isSame(left, "inputSplits", a.inputSplits, b.inputSplits) &&
    isSame(left, "outputSplits", a.outputSplits, b.outputSplits) &&
    isSame(left, "waitAllRanks", a.waitAllRanks, b.waitAllRanks) &&
    isSame(left, "continuation", a.continuation, b.continuation) &&
    isSame(left, "timeoutMs", a.timeoutMs, b.timeoutMs) &&
    isSame(left, "stream", a.stream, b.stream) &&
    isSame(left, "callSite", a.callSite, b.callSite) &&
    isNothing(left)
  );
}

/** Whether a field is the same in two calls; if so, it is removed from those left to compare. */
function isSame<Left extends keyof OpCall, Field extends Left>(
  _left: Left,
  _field: Field,
  a: OpCall[Field],
  b: OpCall[Field],
): _left is Exclude<Left, Field> {
  return a === b;
}

/** Compiles only if no field is left. */
function isNothing(_left: never): true {
  return true;
}

function areSound(views: readonly TensorView[]): boolean {
  for (const view of views) if (viewFault(view) !== undefined) return false;
  return true;
}

/** Snapshots of the calls on their way through a pipeline, shared by all its boundaries. */
export class CallSnapshots {
  /** The list recorded last, and where its snapshots are. */
  calls: readonly OpCall[] | undefined;
  first = 0;
  count = 0;
  readonly #given: GivenCall[] = [];

  /** The snapshot of call `i` of the list recorded at `first`. */
  at(first: number, i: number): GivenCall {
    const known = this.#given[first + i];
    if (known !== undefined) return known;
    const made = new GivenCall();
    this.#given[first + i] = made;
    return made;
  }

  /** Records calls, behind those that they were made from. */
  record(calls: readonly OpCall[]): void {
    this.calls = calls;
    this.first += this.count;
    this.count = calls.length;
    for (let i = 0; i < calls.length; i++) this.at(this.first, i).record(calls[i] as OpCall);
  }

  /** Whether the recorded calls and their list are unchanged. */
  areStill(calls: readonly OpCall[], first: number, count: number): boolean {
    if (calls.length !== count) return false;
    for (let i = 0; i < count; i++) if (!this.at(first, i).isStill(calls[i])) return false;
    return true;
  }

  /** Restores the list and keeps its calls valid, since whoever made them still uses them. */
  end(calls: readonly OpCall[]): void {
    for (let i = 0; i < this.count; i++) {
      const given = this.at(this.first, i);
      const { call } = given;
      if (call === undefined) continue;
      if (calls[i] !== call) (calls as OpCall[])[i] = call;
      if (given.isCorrupted) given.restore();
      given.forget();
    }
    if (calls.length !== this.count) (calls as OpCall[]).length = this.count;
  }
}

/**
 * The boundary where calls pass from one middleware to the next, or to the backend. It checks what the middleware
 * changed and names the middleware in what it throws. A collective that gets no further still takes its turn.
 */
export class CallBoundary {
  readonly #name: string;
  readonly #device: Device;
  readonly #inner: Submit;
  readonly #check: CallCheck;
  readonly #snapshots: CallSnapshots;
  /** The calls that the middleware is handling, and where their snapshots are. */
  #calls: readonly OpCall[] | undefined;
  #first = 0;
  #count = 0;
  /** Whether the middleware has submitted something since it was called. */
  #hasPassed = false;
  /** What the middleware submits to. */
  readonly next: Submit = (calls) => {
    this.#hasPassed = true;
    const isGiven = calls === this.#calls && this.#snapshots.areStill(calls, this.#first, this.#count);
    return isGiven ? this.#inner(calls) : this.#checked(calls);
  };

  constructor(name: string, inner: Submit, device: Device, check: CallCheck, snapshots: CallSnapshots) {
    this.#name = name;
    this.#inner = inner;
    this.#device = device;
    this.#check = check;
    this.#snapshots = snapshots;
  }

  around(submit: Submit): Submit {
    const snapshots = this.#snapshots;
    return (calls) => {
      const before = this.#calls;
      const first = this.#first;
      const count = this.#count;
      const hasPassed = this.#hasPassed;
      // The boundary outside has already recorded them, unless its middleware changed them.
      const recorded = snapshots.calls;
      const firstRecorded = snapshots.first;
      const countRecorded = snapshots.count;
      let isRecorded = false;
      try {
        if (recorded !== calls) snapshots.record(calls);
        isRecorded = true;
        this.#calls = calls;
        this.#first = snapshots.first;
        this.#count = snapshots.count;
        this.#hasPassed = false;
        return submit(calls);
      } catch (error) {
        // An unreadable call comes from the outer middleware.
        throw isRecorded ? this.#thrown(error) : error;
      } finally {
        if (recorded !== calls) {
          snapshots.end(calls);
          snapshots.calls = recorded;
          snapshots.first = firstRecorded;
          snapshots.count = countRecorded;
        }
        this.#calls = before;
        this.#first = first;
        this.#count = count;
        this.#hasPassed = hasPassed;
      }
    };
  }

  #restore(): void {
    for (let i = 0; i < this.#count; i++) this.#snapshots.at(this.#first, i).restore();
  }

  #checked(calls: readonly OpCall[]): readonly Work<void>[] {
    if (!Array.isArray(calls)) {
      const text = `op: middleware "${this.#name}" must submit a list of calls, got ${describe(calls)}`;
      this.#takeTurn(this.#hasGivenCollective());
      throw new InvalidArgumentError(text, { code: "INVALID_CALL", argument: "calls" });
    }
    try {
      // Not forEach(), which skips holes.
      for (const call of calls) if (!this.#isGiven(call)) this.#check.require(call, this.#name);
    } catch (error) {
      this.#takeTurn(calls.some((call) => this.#isCollective(call)));
      this.#restore();
      const failure = this.#named("a call that it submitted", error);
      return calls.map((call) =>
        Work.rejected(failure, { opType: isOpName(call?.op) ? opTypeOf(call) : OpType.UNKNOWN }),
      );
    }
    return this.#inner(calls);
  }

  /** Whether the middleware was passed this call and left it unchanged. */
  #isGiven(call: OpCall): boolean {
    for (let i = 0; i < this.#count; i++) if (this.#snapshots.at(this.#first, i).isStill(call)) return true;
    return false;
  }

  /** If the op of a call is unknown, the calls passed to the middleware decide. */
  #isCollective(call: OpCall | undefined): boolean {
    return isOpName(call?.op) ? opTable[call.op].kind === "collective" : this.#hasGivenCollective();
  }

  #hasGivenCollective(): boolean {
    // Unknown for calls submitted later; collectives are what middleware holds back.
    if (this.#calls === undefined) return true;
    for (let i = 0; i < this.#count; i++) if (this.#snapshots.at(this.#first, i).isCollective) return true;
    return false;
  }

  /** A collective that is refused takes its turn. */
  #takeTurn(isCollective: boolean): void {
    if (!isCollective) return;
    this.#inner([opCall("refused", this.#device, NO_TENSORS, NO_TENSORS, Number.POSITIVE_INFINITY)]);
  }

  #thrown(error: unknown): DistError {
    if (!this.#hasPassed) this.#takeTurn(this.#hasGivenCollective());
    return this.#named("its submit function", error);
  }

  #named(what: string, error: unknown): DistError {
    if (error instanceof DistError) return error;
    const text = `middleware "${this.#name}": ${what} threw ${messageOf(error)}`;
    return new DistBackendError(text, { code: "MIDDLEWARE_ERROR", cause: error });
  }
}
