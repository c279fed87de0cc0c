import { type OpCall, opNames, opTypeOf, tensorsOf } from "../../collectives/index.ts";
import { type DistError, InvalidArgumentError, UnsupportedOperationError } from "../../errors/index.ts";
import type { Clock } from "../../registry/index.ts";
import { isDetachable, STAGED_BYTES, stagedBytes, type TensorView } from "../../tensor/index.ts";
import { blockedSliceMs, serveBlocked, Work } from "../../work/index.ts";
import { bytesOf, isThere } from "./element-bytes.ts";
import type { PendingOp } from "./exchange/exchange-port.ts";

/** The rank whose op it is. */
export interface LocalWorkHost {
  /** Blocks this thread until a message from the other ranks arrives; undefined if they share this thread. */
  readonly pump?: (limitMs: number) => void;
  readonly clock: Clock;
  /** Runs code as the rank whose op it is: the last rank to call an op completes it for all. */
  asRank(code: () => void): void;
  /** Called when the op's time is up. */
  onTimeout(work: LocalWork): void;
  /** Called once, when the op has ended. */
  onEnd(work: LocalWork): void;
  /** Fails the group. */
  abort(reason: string): void;
}

/** Work of an op among ranks of one process. */
export class LocalWork extends Work<void> implements PendingOp {
  readonly timeoutMs: number;
  readonly #host: LocalWorkHost;
  readonly #outputs: readonly TensorView[];
  /** Tensors that native code would use in place: detaching one of them fails the group too. */
  readonly #exposed: readonly TensorView[];
  readonly #due: number;
  readonly #timer: Disposable;
  /** New contents of the outputs, once they have arrived. */
  #arrived: readonly Uint8Array[] | undefined;

  constructor(call: OpCall, seq: number, host: LocalWorkHost) {
    super({ opType: opTypeOf(call), seq });
    const { outputs, timeoutMs } = call;
    this.#host = host;
    this.#outputs = outputs;
    const tensors = tensorsOf(call);
    this.#exposed = stagedBytes(tensors) > STAGED_BYTES ? tensors.filter(isDetachable) : [];
    this.timeoutMs = timeoutMs;
    this.#due = host.clock.now() + timeoutMs;
    // Even without a limit, a timer keeps the process alive while the op is in flight.
    this.#timer = host.clock.schedule(timeoutMs, () => host.onTimeout(this));
  }

  /** Name and number, for messages. */
  get title(): string {
    return this.describe();
  }

  arrive(bytes: readonly Uint8Array[], source = -1): void {
    this.#timer[Symbol.dispose]();
    this.#arrived = bytes;
    this.cameFrom(source);
  }

  deliver(): void {
    const arrived = this.#arrived;
    if (arrived === undefined || this.isCompleted()) return;
    this.#arrived = undefined;
    const outputs = this.#outputs.slice(0, arrived.length);
    const isLost = !this.#exposed.every(isThere);
    if (isLost || !outputs.every(isThere)) {
      const consequence = isLost ? "and the group has failed" : "but the group goes on";
      const error = new InvalidArgumentError(
        `${this.title}: a buffer was detached or resized while the op was using it; its result is lost, ${consequence}. ` +
          "Do not transfer, post or shrink a buffer before the Work of its op has ended, or use dist.empty(); " +
          "C10D_CHECK_DETACH=1 shows where it is done",
        { code: "DETACHED_BUFFER", op: opNames[this.opType], seq: this.seq },
      );
      this.fail(error);
      // As in native backends, which cannot know what was written to.
      if (isLost) this.#host.abort(error.message);
      return;
    }
    for (const [i, output] of outputs.entries()) bytesOf(output).set(arrived[i] ?? []);
    this.settle();
    this.#host.onEnd(this);
  }

  override settle(error?: DistError): void {
    this.#host.asRank(() => super.settle(error));
  }

  fail(error: DistError): void {
    if (this.isCompleted()) return;
    this.#timer[Symbol.dispose]();
    this.settle(error);
    this.#host.onEnd(this);
  }

  override get keepsLimit(): boolean {
    return true;
  }

  protected override block(limitMs: number): void {
    this.deliver();
    if (this.#host.pump !== undefined) this.#waitFor(this.#host.pump, limitMs);
    if (this.isCompleted()) return;
    throw new UnsupportedOperationError(
      `${this.title}: wait() would never return, since the ranks that it waits for run on this very thread. Await the ` +
        "Work instead, or run the ranks in processes or Workers",
      { code: "WAIT_WOULD_DEADLOCK", backend: "fake", op: opNames[this.opType], seq: this.seq },
    );
  }

  /** Receives messages until this op ends. The timer of the op cannot fire meanwhile. */
  #waitFor(pump: (limitMs: number) => void, limitMs: number): void {
    const deadline = performance.now() + limitMs;
    let late = false;
    while (!this.isCompleted()) {
      const now = performance.now();
      const leftMs = late ? Number.POSITIVE_INFINITY : this.#due - this.#host.clock.now();
      if (leftMs <= 0) {
        late = true;
        this.#host.onTimeout(this);
      } else if (now >= deadline) throw this.waitTimeout(limitMs);
      else {
        pump(Math.min(deadline - now, leftMs, blockedSliceMs()));
        serveBlocked();
      }
    }
  }
}
