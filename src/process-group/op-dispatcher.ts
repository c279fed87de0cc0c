import { isGeneratorObject } from "node:util/types";
import {
  isMessage,
  NO_TENSORS,
  nextCallId,
  type OpCall,
  OpType,
  opCall,
  opNames,
  opTable,
  opTypeOf,
  startOf,
} from "../collectives/index.ts";
import { type CallSite, type DistError, describe, InvalidArgumentError } from "../errors/index.ts";
import { holdTensorsIn, releaseHolds } from "../tensor/index.ts";
import { AllOf, asError, DeferredWork, OpQueue, OWN_RESULT, SteppedWork, type Steps, Work } from "../work/index.ts";
import type { GroupWorks, WholeTerms } from "./group-works.ts";
import type { GroupHooks } from "./hooks/group-hooks.ts";
import type { Pipeline } from "./pipeline/pipeline.ts";
import { Coalescing } from "./steps/coalescing.ts";

/** An op that is composed of several. */
export interface SteppedOp<T> extends WholeTerms {
  /** Name of the function that the user called. */
  readonly op: string;
  readonly opType: OpType;
  /** Its number; by default that of its first step. */
  readonly seq?: number;
  /** Point-to-point ops are ordered within this queue only; collectives with all collectives of the group. */
  readonly queue?: string;
  /** Makes the steps; `cameFrom` reports the group rank that a message came from. */
  readonly steps: (cameFrom: (groupRank: number) => void) => Steps<T>;
  /** Why the op fails on this rank. The steps still run, to notify the other ranks, which would otherwise wait. */
  readonly refusal?: DistError | undefined;
}

/** What a dispatcher needs of its group. */
export interface DispatcherHost {
  readonly name: string;
  readonly pipelines: readonly Pipeline[];
  /** Throws when the group takes no more ops. */
  requireOpen(op: string): void;
}

/** Passes the ops of a group to its pipelines, in the order of the calls: one by one, in several steps, or together. */
export class OpDispatcher {
  readonly #host: DispatcherHost;
  readonly #works: GroupWorks;
  readonly #hooks: GroupHooks;
  readonly #collectives = new OpQueue();
  /** Queues of messages that take several steps. */
  readonly #messages = new Map<string, OpQueue>();
  #coalescing: Coalescing | undefined;

  constructor(host: DispatcherHost, works: GroupWorks, hooks: GroupHooks) {
    this.#host = host;
    this.#works = works;
    this.#hooks = hooks;
  }

  /**
   * Starts one op.
   * @param calls The calls that carry it out: the call itself, or several.
   * @param result What it resolves to.
   */
  start<T>(pipeline: Pipeline, call: OpCall, calls: readonly OpCall[], result: unknown): Work<T> {
    if (call.device.type === "cpu") return this.#start(pipeline, call, calls, result);
    // Until it is submitted, which may be later, and then the backend holds them as well.
    const holds = holdTensorsIn(startOf(call), call.inputs, call.outputs);
    try {
      const work = this.#start<T>(pipeline, call, calls, result);
      if (holds.length > 0) work.whenEnded(() => releaseHolds(holds));
      return work;
    } catch (error) {
      releaseHolds(holds);
      throw error;
    }
  }

  #start<T>(pipeline: Pipeline, call: OpCall, calls: readonly OpCall[], result: unknown): Work<T> {
    if (!this.#hooks.isActive) return this.#submit(pipeline, call, calls, result);
    const { id: opId, inputs, outputs, reduceOp, root, peer, tag, timeoutMs, callSite } = call;
    const { api: op } = opTable[call.op];
    const opType = opTypeOf(call);
    const terms = { opId, op, opType, inputs, outputs, reduceOp, root, peer, tag, timeoutMs, callSite };
    const announced = this.#works.announce(call);
    const message = this.#hooks.before(terms);
    const work = this.#submit<T>(pipeline, call, calls, result, announced);
    this.#hooks.submitted(message, work);
    return work;
  }

  /** Calls the hooks of an op without tensors, or of a batch, if there are any. */
  #withHooks<T>(op: string, opType: OpType, terms: WholeTerms, submit: (announced?: number) => Work<T>): Work<T> {
    if (!this.#hooks.isActive) return submit();
    const { root = -1, peer = -1, tag = 0, timeoutMs = Number.POSITIVE_INFINITY, callSite } = terms;
    const announced = this.#works.announceWhole(op, opType, terms);
    const message = this.#hooks.before({
      opId: nextCallId(),
      op,
      opType,
      inputs: NO_TENSORS,
      outputs: NO_TENSORS,
      reduceOp: undefined,
      root,
      peer,
      tag,
      timeoutMs,
      callSite,
    });
    const work = submit(announced);
    this.#hooks.submitted(message, work);
    return work;
  }

  #submit<T>(pipeline: Pipeline, call: OpCall, calls: readonly OpCall[], result: unknown, announced?: number): Work<T> {
    const opType = opTypeOf(call);
    const [first] = calls;
    const batch = this.#coalescing;
    const waits = !isMessage(opType) && this.#collectives.isBusy;
    if (calls.length === 1 && first !== undefined && batch === undefined && !waits) {
      return this.#works.bind(pipeline.submitOne(first), result, call, announced);
    }
    const works = batch
      ? calls.map((each) => batch.add(pipeline, each))
      : waits
        ? this.#later(pipeline, calls, opType)
        : pipeline.submit(calls);
    const [only] = works;
    const whole = works.length === 1 && only !== undefined ? only : new AllOf(works, { opType });
    const work = this.#works.bind<T>(whole, result, call, announced);
    batch?.note(work);
    return work;
  }

  /** Queues calls until the multi-step ops called before them have ended. */
  #later(pipeline: Pipeline, calls: readonly OpCall[], opType: OpType): readonly DeferredWork[] {
    const works = calls.map((call) => new DeferredWork({ opType: opTypeOf(call) }, () => this.#collectives.ahead()));
    this.#collectives.add(() => {
      this.#ifOpen(opNames[opType], works, () => {
        for (const [i, work] of pipeline.submit(calls).entries()) works[i]?.follow(work);
      });
      return undefined;
    });
    return works;
  }

  /** Submits what waited for its turn, unless the group was closed meanwhile. */
  #ifOpen(op: string, works: readonly Work<unknown>[], submit: () => void): void {
    try {
      this.#host.requireOpen(op);
    } catch (error) {
      for (const work of works) work.settle(asError(error, work));
      return;
    }
    submit();
  }

  /** Starts a multi-step op behind those in its queue. */
  startSteps<T>(steps: SteppedOp<T>): Work<T> {
    return this.#withHooks(steps.op, steps.opType, steps, (announced) => this.#submitSteps(steps, announced));
  }

  #submitSteps<T>(
    { op, opType, seq, queue, steps, refusal, ...terms }: SteppedOp<T>,
    announced: number | undefined,
  ): Work<T> {
    const order = queue === undefined ? this.#collectives : this.#queueOf(queue);
    const work: SteppedWork<T> = new SteppedWork<T>(
      seq === undefined ? { opType } : { opType, seq },
      steps((groupRank) => work.cameFrom(groupRank)),
      () => order.ahead(),
    );
    // An op that fails here is still recorded, since the other ranks record it, too.
    const seen = refusal === undefined ? work : Work.rejected<T>(refusal, { opType });
    const bound = this.#works.bindWhole<T>(seen, OWN_RESULT, op, terms, announced);
    order.add(() => {
      work.start();
      return work;
    });
    if (queue !== undefined) {
      work.whenEnded(() => {
        if (!order.isBusy) this.#messages.delete(queue);
      });
    }
    return bound;
  }

  #queueOf(name: string): OpQueue {
    const known = this.#messages.get(name);
    if (known !== undefined) return known;
    const queue = new OpQueue();
    this.#messages.set(name, queue);
    return queue;
  }

  /** Whether ops that are called now are only collected. */
  get isCoalescing(): boolean {
    return this.#coalescing !== undefined;
  }

  /** Submits the ops that `body` calls together. */
  coalescing(body: () => void, callSite?: CallSite): Work<void> {
    const opType = OpType.COALESCED;
    if (this.#coalescing !== undefined) {
      const message = `coalescing: group "${this.#host.name}" is coalescing already; it cannot be nested`;
      const nested = this.#works.refused<void>(
        new InvalidArgumentError(message, { op: "coalescing" }),
        opType,
        callSite,
      );
      // The batch must not succeed if a part of it was refused.
      this.#coalescing.note(nested);
      return nested;
    }
    if (typeof body !== "function") {
      const message = `coalescing: body must be a function that calls the ops, got ${describe(body)}`;
      const error = new InvalidArgumentError(message, { op: "coalescing", argument: "body" });
      return this.#works.refused(error, opType, callSite);
    }
    const batch = new Coalescing();
    const refusal = this.#collect(batch, body);
    if (refusal !== undefined) {
      const failed = this.#works.refused<void>(refusal, opType, callSite);
      batch.discard(asError(refusal, { opType }), failed);
      if (!batch.isOfMessages) this.skipTurn();
      return failed;
    }
    return this.#withHooks("coalescing", opType, { callSite }, (announced) =>
      this.#submitBatch(batch, callSite, announced),
    );
  }

  #submitBatch(batch: Coalescing, callSite: CallSite | undefined, announced: number | undefined): Work<void> {
    const all = new AllOf(batch.works, { opType: OpType.COALESCED });
    const whole = this.#works.bindWhole<void>(all, undefined, "coalescing", { callSite }, announced);
    const submit = () => this.#ifOpen("coalescing", batch.pending, () => batch.submit());
    // Messages do not wait for collectives, since a peer may need them before it reaches those.
    if (!batch.hasCollectives || !this.#collectives.isBusy) submit();
    else {
      batch.waitFor(() => this.#collectives.ahead());
      this.#collectives.add(() => {
        submit();
        return undefined;
      });
    }
    return whole;
  }

  /** Calls `body`; returns why nothing may be submitted. */
  #collect(batch: Coalescing, body: () => void): unknown {
    this.#coalescing = batch;
    try {
      const returned: unknown = body();
      if (returned instanceof Promise) returned.catch(() => {});
      if (returned instanceof Promise || isGenerator(returned)) {
        const kind = returned instanceof Promise ? "async" : "a generator";
        throw new InvalidArgumentError(
          `coalescing: the function must not be ${kind}: all ops have to be called before it returns`,
          { op: "coalescing", argument: "body" },
        );
      }
      if (batch.refusal === undefined) {
        batch.requireDisjoint();
        batch.requireOneStream();
      }
      return batch.refusal;
    } catch (error) {
      return error ?? new InvalidArgumentError(`coalescing: the function threw ${describe(error)}`);
    } finally {
      this.#coalescing = undefined;
    }
  }

  /** The Work of an op that was refused before it reached a backend. A collective still takes its turn. */
  refuse<T>(error: unknown, opType: OpType, callSite?: CallSite): Work<T> {
    const work = this.#works.refused<T>(error, opType, callSite);
    // The refusals of a batch count as one, when it ends.
    if (this.#coalescing !== undefined) this.#coalescing.note(work);
    else if (!isMessage(opType)) this.skipTurn();
    return work;
  }

  /** Notifies the backends of a refused collective, behind the collectives that were called before. */
  skipTurn(): void {
    const skip = () => {
      for (const pipeline of this.#host.pipelines) {
        pipeline.submitOne(opCall("refused", pipeline.device, NO_TENSORS, NO_TENSORS, Number.POSITIVE_INFINITY));
      }
      return undefined;
    };
    if (this.#collectives.isBusy) this.#collectives.add(skip);
    else skip();
  }

  /** Resolves when no multi-step op is in flight or waiting for its turn. */
  async idle(): Promise<void> {
    await Promise.all([this.#collectives, ...this.#messages.values()].map((queue) => queue.idle()));
  }

  get isBusy(): boolean {
    return this.#collectives.isBusy || [...this.#messages.values()].some((queue) => queue.isBusy);
  }
}

/** Whether a function returned a generator, whose body has not run yet. */
function isGenerator(value: unknown): boolean {
  return isGeneratorObject(value) || Object.prototype.toString.call(value) === "[object AsyncGenerator]";
}
