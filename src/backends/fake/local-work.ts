import { opNames } from "../../collectives/op-type.ts";
import { type DistError, InvalidArgumentError, UnsupportedOperationError } from "../../errors/index.ts";
import { isWhole, type TensorView } from "../../tensor/index.ts";
import { Work, type WorkInit } from "../../work/index.ts";
import { bytesOf } from "./element-bytes.ts";
import type { PendingOp } from "./exchange-port.ts";

/** Longest delay that a timer can have. */
const MAX_DELAY_MS = 2 ** 31 - 1;

export interface LocalWorkInit extends WorkInit {
  /** What the op resolves to. */
  readonly result: unknown;
  readonly timeoutMs: number;
  /** Tensors that native code would use where they are: detaching one of them fails the group too. */
  readonly exposed: readonly TensorView[];
  /** Turns the rank that a recv came from into a global rank. */
  readonly sourceRank?: (groupRank: number) => number;
  /** Blocks this thread until something has come from the other ranks; undefined where they share this thread. */
  readonly pump?: (limitMs: number) => void;
  /** Called when the op's time is up. */
  onTimeout(work: LocalWork): void;
  /** Called once, when the op has ended. */
  onEnd(work: LocalWork): void;
  /** Called to abort the group. */
  onAbort(reason: string): void;
}

/** Work of an op among ranks of one process. */
export class LocalWork extends Work<unknown> implements PendingOp {
  readonly timeoutMs: number;
  readonly #init: LocalWorkInit;
  readonly #due: number;
  readonly #timer: ReturnType<typeof setTimeout>;
  #delivery: { readonly outputs: readonly TensorView[]; readonly bytes: readonly Uint8Array[] } | undefined;
  #source = -1;

  constructor(init: LocalWorkInit) {
    super(init);
    this.#init = init;
    this.timeoutMs = init.timeoutMs;
    this.#due = performance.now() + init.timeoutMs;
    // Also without a limit, a timer keeps the process alive while the op is in flight.
    this.#timer = setTimeout(
      () => {
        if (init.timeoutMs <= MAX_DELAY_MS) init.onTimeout(this);
      },
      Math.min(init.timeoutMs, MAX_DELAY_MS),
    );
  }

  /** Name and number, for messages. */
  get title(): string {
    return this.describe();
  }

  arrive(outputs: readonly TensorView[], bytes: readonly Uint8Array[], source = -1): void {
    clearTimeout(this.#timer);
    this.#delivery = { outputs, bytes };
    this.#source = source;
  }

  deliver(): void {
    const delivery = this.#delivery;
    if (delivery === undefined || this.isCompleted()) return;
    this.#delivery = undefined;
    const outputs = delivery.bytes.map((_, i) => delivery.outputs[i]);
    const isLost = !this.#init.exposed.every(isThere);
    if (isLost || !outputs.every(isThere)) {
      const consequence = isLost ? "and the group has failed" : "but the group goes on";
      const error = new InvalidArgumentError(
        `${this.title}: a buffer was detached or resized while the op was using it; its result is lost, ${consequence}. ` +
          "Do not transfer, post or shrink a buffer before the Work of its op has ended, or use dist.empty(); " +
          "C10D_CHECK_DETACH=1 shows where it is done",
        { code: "DETACHED_BUFFER", op: opNames[this.opType], seq: this.seq },
      );
      this.fail(error);
      // As with native code, whose backends cannot know what it has written to.
      if (isLost) this.#init.onAbort(error.message);
      return;
    }
    for (const [i, bytes] of delivery.bytes.entries()) {
      const output = outputs[i];
      if (output !== undefined) bytesOf(output).set(bytes);
    }
    this.settle();
    this.#init.onEnd(this);
  }

  fail(error: DistError): void {
    if (this.isCompleted()) return;
    clearTimeout(this.#timer);
    this.settle(error);
    this.#init.onEnd(this);
  }

  override sourceRank(): number {
    if (this.#init.sourceRank === undefined) return super.sourceRank();
    if (this.isSuccess()) return this.#init.sourceRank(this.#source);
    throw new UnsupportedOperationError(`${this.title}: the source rank is known only after success`);
  }

  override abort(): void {
    this.#init.onAbort(`${this.title} was aborted`);
  }

  protected override block(limitMs: number): void {
    this.deliver();
    if (this.#init.pump !== undefined) this.#waitFor(this.#init.pump, limitMs);
    if (this.isCompleted()) return;
    throw new UnsupportedOperationError(
      `${this.title}: wait() would never return, since the ranks that it waits for run on this very thread. Await the ` +
        "Work instead, or run the ranks in processes or Workers",
      { code: "WAIT_WOULD_DEADLOCK", backend: "fake", op: opNames[this.opType], seq: this.seq },
    );
  }

  /** Takes what comes until it is the end of this op. The timer of the op cannot fire meanwhile. */
  #waitFor(pump: (limitMs: number) => void, limitMs: number): void {
    const deadline = performance.now() + limitMs;
    let late = false;
    while (!this.isCompleted()) {
      const now = performance.now();
      if (now >= this.#due && !late) {
        late = true;
        this.#init.onTimeout(this);
      } else if (now >= deadline) throw this.waitTimeout(limitMs);
      else pump(Math.min(deadline, late ? Number.POSITIVE_INFINITY : this.#due) - now);
    }
  }

  protected override value(): unknown {
    return this.#init.result;
  }
}

function isThere(view: TensorView | undefined): boolean {
  return view?.data === undefined || isWhole(view.data, view.byteLength);
}
