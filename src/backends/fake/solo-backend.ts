import { type OpCall, type OpType, opNames, opTypeOf, tensorsOf } from "../../collectives/index.ts";
import { DistBackendError, type DistError, DistTimeoutError, InvalidArgumentError } from "../../errors/index.ts";
import { Backend, type BackendContext, type Capabilities, type Clock } from "../../registry/index.ts";
import { type GroupState, Work } from "../../work/index.ts";
import { bytesOf, isThere } from "./element-bytes.ts";
import { isCollective } from "./numbered-call.ts";
import type { FakeOptions } from "./options.ts";
import { soloResultsOf } from "./solo-results.ts";
import { SoloWork } from "./solo-work.ts";

/** A rank that only pretends to have peers. c10d: `FakeProcessGroup`. */
export class SoloBackend extends Backend {
  override readonly name = "fake";
  override readonly capabilities: Capabilities;
  readonly #group: string;
  readonly #options: FakeOptions;
  readonly #clock: Clock;
  readonly #inFlight = new Set<SoloWork>();
  #whenIdle: (() => void)[] = [];
  #collectives = 0;
  #messages = 0;
  #failure: DistError | undefined;
  #closed = false;

  constructor(
    { rank, size, groupName, clock }: Pick<BackendContext, "rank" | "size" | "groupName" | "clock">,
    options: FakeOptions,
    capabilities: Capabilities,
  ) {
    super(rank, size);
    this.capabilities = capabilities;
    this.#group = groupName;
    this.#options = options;
    this.#clock = clock;
  }

  override get state(): GroupState {
    if (this.#closed) return "CLOSED";
    return this.#failure === undefined ? "OPEN" : "FAILED";
  }

  override get inFlight(): number {
    return this.#inFlight.size;
  }

  override submit(calls: readonly OpCall[]): readonly Work<void>[] {
    return calls.map((call) => {
      // There are no other ranks to compare calls with.
      if (call.op === "refused") return Work.completed(undefined, { opType: opTypeOf(call) });
      return this.state === "OPEN" ? this.#start(call) : this.#refuse(opTypeOf(call));
    });
  }

  /** With its own error messages: {@link submit} refuses calls on a closed or failed group. */
  override refuse(calls: readonly OpCall[]): readonly Work<void>[] {
    return this.submit(calls);
  }

  #start(call: OpCall): Work<void> {
    const opType = opTypeOf(call);
    const seq = this.#numberOf(call);
    const { timeoutMs } = call;
    const { delayMs = 0 } = this.#options;
    const late = delayMs > timeoutMs;
    const work = new SoloWork({
      opType,
      seq,
      delayMs: Math.min(delayMs, timeoutMs),
      clock: this.#clock,
      carryOut: () => (late ? this.#fail(this.#timeout(opType, seq, timeoutMs)) : this.#carryOut(call, seq)),
      onEnd: (ended) => this.#onEnd(ended),
    });
    if (call.op === "recv") work.cameFrom(call.peer >= 0 ? call.peer : this.#lowestOther);
    this.#inFlight.add(work);
    if (delayMs === 0) work.end();
    return work;
  }

  #numberOf(call: OpCall): number {
    if (!isCollective(call)) return ++this.#messages;
    return call.continuation ? this.#collectives : ++this.#collectives;
  }

  get #lowestOther(): number {
    return this.rank === 0 ? Math.min(1, this.size - 1) : 0;
  }

  #carryOut(call: OpCall, seq: number): DistError | undefined {
    const opType = opTypeOf(call);
    const injected = isCollective(call) ? this.#injectedError(opType, seq) : undefined;
    if (injected !== undefined) return injected;
    if (!tensorsOf(call).every(isThere)) return this.#detached(opType, seq);
    for (const [i, bytes] of soloResultsOf(call, this.rank, this.size).entries()) {
      const output = call.outputs[i];
      if (output !== undefined) bytesOf(output).set(bytes);
    }
    return undefined;
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
    const text = `${this.#where(opType, seq)}: failed as requested (failAt is ${failAt})`;
    return this.#fail(new DistBackendError(text, { ...init, code: "INJECTED_FAILURE" }));
  }

  #detached(opType: OpType, seq: number): DistError {
    return new InvalidArgumentError(
      `${this.#where(opType, seq)}: a buffer was detached or resized while the op was using it; its result is lost`,
      { ...this.#details(opType), seq, code: "DETACHED_BUFFER" },
    );
  }

  #timeout(opType: OpType, seq: number, timeoutMs: number): DistError {
    return new DistTimeoutError(`${this.#where(opType, seq)}: timed out after ${timeoutMs} ms`, {
      ...this.#details(opType),
      seq,
      code: "OP_TIMEOUT",
      timeoutMs,
    });
  }

  /** The group fails with one of its ops, and so do all ops in flight. */
  #fail(error: DistError): DistError {
    this.#failure ??= error;
    for (const work of [...this.#inFlight]) work.end(error);
    this.announceFailure(error.message);
    return error;
  }

  #where(opType: OpType, seq: number): string {
    return `${opNames[opType]} #${seq} on group "${this.#group}" (fake, rank ${this.rank} of ${this.size})`;
  }

  #details(opType: OpType) {
    return { backend: "fake", group: this.#group, op: opNames[opType], rank: this.rank };
  }

  #refuse(opType: OpType): Work<void> {
    const [code, text] = this.#closed
      ? ["GROUP_CLOSED", "is closed; make a new one with initProcessGroup() or newGroup()"]
      : ["GROUP_FAILED", `has failed before (${this.#failure?.message}); make a new one with newGroup()`];
    const error = new DistBackendError(`${opNames[opType]}: group "${this.#group}" ${text}`, {
      ...this.#details(opType),
      code,
      ...(this.#failure && { cause: this.#failure }),
    });
    return Work.rejected(error, { opType });
  }

  override abort(reason: string): void {
    if (this.#closed) return;
    const error = new DistBackendError(`group "${this.#group}" (fake, rank ${this.rank}): ${reason}`, {
      backend: "fake",
      group: this.#group,
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
