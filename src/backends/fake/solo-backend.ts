import { OpType, opNames } from "../../collectives/op-type.ts";
import { DistBackendError, type DistError, DistTimeoutError } from "../../errors/index.ts";
import type { BackendContext, MessageOptions, OpOptions } from "../../registry/index.ts";
import type { TensorView } from "../../tensor/index.ts";
import { type GroupState, Work } from "../../work/index.ts";
import type { CollectiveCall } from "./collective-call.ts";
import { bytesOf } from "./element-bytes.ts";
import { FakeBackend } from "./fake-backend.ts";
import type { FakeOptions } from "./options.ts";
import { soloResultsOf } from "./solo-results.ts";
import { SoloWork } from "./solo-work.ts";

/** A rank that only pretends to have peers. c10d: `FakeProcessGroup`. */
export class SoloBackend extends FakeBackend {
  readonly #context: Pick<BackendContext, "groupName" | "globalRanks">;
  readonly #options: FakeOptions;
  readonly #inFlight = new Set<SoloWork>();
  #whenIdle: (() => void)[] = [];
  #collectives = 0;
  #messages = 0;
  #failure: DistError | undefined;
  #closed = false;

  constructor(context: Pick<BackendContext, "rank" | "size" | "groupName" | "globalRanks">, options: FakeOptions) {
    super(context.rank, context.size);
    this.#context = context;
    this.#options = options;
  }

  override get state(): GroupState {
    if (this.#closed) return "CLOSED";
    return this.#failure === undefined ? "OPEN" : "FAILED";
  }

  override get inFlight(): number {
    return this.#inFlight.size;
  }

  protected override collective(call: CollectiveCall, result: unknown, options: OpOptions): Work<unknown> {
    if (this.state !== "OPEN") return this.#refuse(call.opType, options);
    const seq = ++this.#collectives;
    return this.#run(call.opType, seq, result, options, undefined, () => {
      const injected = this.#injectedError(call.opType, seq);
      if (injected !== undefined) return injected;
      for (const [i, bytes] of soloResultsOf(call, this.rank, this.size).entries()) {
        const output = call.outputs[i];
        if (output !== undefined) bytesOf(output).set(bytes);
      }
      return undefined;
    });
  }

  protected override message(
    opType: OpType.SEND | OpType.RECV | OpType.RECV_ANY_SOURCE,
    tensor: TensorView,
    options: MessageOptions,
  ): Work<unknown> {
    if (this.state !== "OPEN") return this.#refuse(opType, options);
    const source = options.peer >= 0 ? options.peer : this.rank === 0 ? Math.min(1, this.size - 1) : 0;
    const global = opType === OpType.SEND ? undefined : this.#context.globalRanks[source];
    return this.#run(opType, ++this.#messages, tensor.source, options, global, () => undefined);
  }

  #run(
    opType: OpType,
    seq: number,
    result: unknown,
    { timeoutMs, owner }: OpOptions,
    sourceRank: number | undefined,
    carryOut: () => DistError | undefined,
  ): Work<unknown> {
    const { delayMs = 0 } = this.#options;
    const late = delayMs > timeoutMs;
    const work = new SoloWork({
      opType,
      seq,
      result,
      sourceRank,
      ...(owner && { owner }),
      delayMs: Math.min(delayMs, timeoutMs),
      carryOut: () => (late ? this.#fail(this.#timeout(opType, seq, timeoutMs)) : carryOut()),
      onEnd: (ended) => this.#onEnd(ended),
      onAbort: (reason) => this.abort(reason),
    });
    this.#inFlight.add(work);
    if (delayMs === 0) work.end();
    return work;
  }

  #onEnd(work: SoloWork): void {
    this.#inFlight.delete(work);
    if (this.#inFlight.size > 0) return;
    for (const resolve of this.#whenIdle.splice(0)) resolve();
  }

  #injectedError(opType: OpType, seq: number): DistError | undefined {
    const { errorOnCollective, failAt } = this.#options;
    const init = { ...this.#details(opType), seq };
    if (errorOnCollective) {
      return new DistBackendError(
        `${this.#where(opType, seq)}: collective operation error (errorOnCollective is set)`,
        {
          ...init,
          code: "INJECTED_FAILURE",
        },
      );
    }
    if (seq !== failAt) return undefined;
    const text = `${this.#where(opType, seq)}: failed as asked for (failAt is ${failAt})`;
    return this.#fail(new DistBackendError(text, { ...init, code: "INJECTED_FAILURE" }));
  }

  #timeout(opType: OpType, seq: number, timeoutMs: number): DistError {
    return new DistTimeoutError(`${this.#where(opType, seq)}: timed out after ${timeoutMs} ms`, {
      ...this.#details(opType),
      seq,
      code: "OP_TIMEOUT",
      timeoutMs,
    });
  }

  /** The group fails with an op of it: so does all that is in flight. */
  #fail(error: DistError): DistError {
    this.#failure ??= error;
    for (const work of [...this.#inFlight]) work.end(error);
    return error;
  }

  #where(opType: OpType, seq: number): string {
    return `${opNames[opType]} #${seq} on group "${this.#context.groupName}" (fake, rank ${this.rank} of ${this.size})`;
  }

  #details(opType: OpType) {
    return { backend: "fake", group: this.#context.groupName, op: opNames[opType], rank: this.rank };
  }

  #refuse(opType: OpType, { owner }: OpOptions): Work<unknown> {
    const group = this.#context.groupName;
    const [code, text] = this.#closed
      ? ["GROUP_CLOSED", "is closed; make a new one with initProcessGroup() or newGroup()"]
      : ["GROUP_FAILED", `has failed before (${this.#failure?.message}); make a new one with newGroup()`];
    const error = new DistBackendError(`${opNames[opType]}: group "${group}" ${text}`, {
      ...this.#details(opType),
      code,
      ...(this.#failure && { cause: this.#failure }),
    });
    return Work.rejected(error, owner === undefined ? { opType } : { opType, owner });
  }

  override abort(reason: string): void {
    if (this.#closed) return;
    const error = new DistBackendError(`group "${this.#context.groupName}" (fake, rank ${this.rank}): ${reason}`, {
      backend: "fake",
      group: this.#context.groupName,
      rank: this.rank,
      code: "ABORTED",
    });
    this.#fail(error);
  }

  override drained(): Promise<void> {
    if (this.#inFlight.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#whenIdle.push(resolve));
  }

  override close(): Promise<void> {
    if (this.#inFlight.size > 0) this.abort("the group was closed while the op was in flight");
    this.#closed = true;
    return Promise.resolve();
  }
}
