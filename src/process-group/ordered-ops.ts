import { isMessage, OpType, opNames, type ReduceOp } from "../collectives/index.ts";
import { type DistError, describe, InvalidArgumentError } from "../errors/index.ts";
import type { Backend, OpName } from "../registry/index.ts";
import type { DeviceType, DType } from "../tensor/index.ts";
import { AllOf, failureOf, joinWhole, outcomeOf, Work } from "../work/index.ts";
import { Coalescing } from "./coalescing.ts";
import { OpLanes } from "./op-lanes.ts";
import { TensorOps } from "./tensor-ops.ts";

/** Lane of the collectives that take several steps, which other collectives have to wait for. */
const COLLECTIVES = "collectives";

/** An op that is made of several. */
interface Steps {
  /** Those of one lane run one after the other; that of the collectives by default. */
  readonly lane?: string;
  readonly body: () => Promise<unknown>;
  /** Why the op fails on this rank. The body still runs: it announces that to the other ranks, which would wait. */
  readonly refusal?: DistError | undefined;
  /** Where what was received came from, once it is there: a global rank. */
  readonly sourceRank?: () => number;
}

/** The order of the ops of a group, where it is not that of the calls as they come: coalescing, and ops of several steps. */
export abstract class OrderedOps extends TensorOps {
  readonly #lanes = new OpLanes();
  #coalescing: Coalescing | undefined;

  /**
   * Submits the ops that `body` calls on this group together. Neighbouring all-reduces of one dtype and reduce op become
   * one op where the backend can do that, and so do `allGatherIntoTensor` and `reduceScatterTensor`; the rest follow in
   * their order. All ranks make the same calls.
   *
   * @param body Calls ops and returns; their Works end with the whole. If one of them is refused, or `body` throws,
   *   nothing is sent. It must not be async.
   *
   * c10d: `_coalescing_manager`.
   */
  coalescing(body: () => void): Work<void> {
    const init = { opType: OpType.COALESCED, owner: this } as const;
    if (this.#coalescing !== undefined) {
      const message = `coalescing: group "${this.name}" is coalescing already; it cannot be nested`;
      const nested = Work.rejected<void>(new InvalidArgumentError(message, { op: "coalescing" }), init);
      // The whole must not end well where a part of it was refused.
      this.#coalescing.note(nested);
      return nested;
    }
    if (typeof body !== "function") {
      const message = `coalescing: body must be a function that calls the ops, got ${describe(body)}`;
      return Work.rejected(new InvalidArgumentError(message, { op: "coalescing", argument: "body" }), init);
    }
    const coalescing = new Coalescing();
    this.#coalescing = coalescing;
    let refusal: unknown;
    try {
      const returned: unknown = body();
      if (returned instanceof Promise) {
        returned.catch(() => {});
        throw new InvalidArgumentError(
          "coalescing: the function must not be async: all ops have to be called before it returns",
          { op: "coalescing", argument: "body" },
        );
      }
      refusal = coalescing.refusal;
      if (refusal === undefined) coalescing.requireDisjoint();
    } catch (error) {
      refusal = error ?? new InvalidArgumentError(`coalescing: the function threw ${describe(error)}`);
    } finally {
      this.#coalescing = undefined;
    }
    if (refusal !== undefined) {
      const failed = Work.rejected<void>(refusal, init);
      coalescing.discard(refusal, failed);
      if (!coalescing.isOfMessages) this.onRefusal(OpType.COALESCED);
      return failed;
    }
    let isSubmitted = false;
    const submit = () => {
      isSubmitted = true;
      this.#submit(coalescing);
      return new AllOf(coalescing.works, undefined, init);
    };
    // Messages wait for no collective, since a peer may want them before it comes to that.
    const whole =
      coalescing.hasCollectives && this.#lanes.isBusy(COLLECTIVES)
        ? this.#inTurn<void>(OpType.COALESCED, submit)
        : super.run<void>(OpType.COALESCED, submit);
    whole.whenEnded(() => {
      if (!isSubmitted) coalescing.discard(failureOf(whole) ?? this.closedError("coalescing"), whole);
    });
    return whole;
  }

  /**
   * Starts an op of several steps behind those of its lane.
   * @param prepare Checks the arguments, which happens at once, and returns the steps.
   */
  protected runSteps<T>(op: string, opType: OpType, prepare: () => Steps): Work<T> {
    const work = super.run<T>(opType, () => {
      if (this.#coalescing !== undefined) {
        throw new InvalidArgumentError(`${op}: what takes several steps cannot be coalesced`, { op });
      }
      const { lane = COLLECTIVES, body, refusal, sourceRank } = prepare();
      const end = this.#lanes.run(lane, body);
      const init = { opType, owner: this } as const;
      if (refusal === undefined) return Work.fromPromise(end, { ...init, ...(sourceRank && { sourceRank }) });
      end.catch(() => {});
      return Work.rejected(refusal, init);
    });
    this.#coalescing?.note(work);
    return work;
  }

  protected override backendFor(op: OpName, device: DeviceType, dtype?: DType, reduceOp?: ReduceOp): Backend {
    const backend = super.backendFor(op, device, dtype, reduceOp);
    return this.#coalescing?.recorderOf(backend) ?? backend;
  }

  protected override run<T>(opType: OpType, start: () => Work<unknown>): Work<T> {
    if (this.#coalescing !== undefined) {
      const work = super.run<T>(opType, start);
      this.#coalescing.note(work);
      return work;
    }
    if (isMessage(opType) || !this.#lanes.isBusy(COLLECTIVES)) return super.run<T>(opType, start);
    // The arguments are read now, and may be changed before it is the op's turn.
    const waiting = new Coalescing();
    this.#coalescing = waiting;
    const recorded = super.run<T>(opType, start);
    this.#coalescing = undefined;
    if (recorded.isCompleted()) {
      this.onRefusal(opType);
      return recorded;
    }
    let isSubmitted = false;
    const later = this.#inTurn<T>(opType, () => {
      isSubmitted = true;
      this.#submit(waiting);
      return recorded;
    });
    later.whenEnded(() => {
      if (!isSubmitted) waiting.discard(failureOf(later) ?? this.closedError(opNames[opType]), later);
    });
    return later;
  }

  #submit(ops: Coalescing): void {
    ops.submit((op, { device, dtype }, reduceOp) => this.canDo(op, device.type, dtype, reduceOp));
  }

  /** Behind the collectives that were called before; the refusals of a batch count as one, when it ends. */
  protected override onRefusal(opType: OpType): void {
    if (this.#coalescing !== undefined || isMessage(opType)) return;
    if (this.#lanes.isBusy(COLLECTIVES)) void this.#lanes.run(COLLECTIVES, async () => this.skipTurn());
    else this.skipTurn();
  }

  /** Runs `start` when the collectives of several steps that are under way have ended. */
  #inTurn<T>(opType: OpType, start: () => Work<unknown>): Work<T> {
    // In the lane itself, or what is called when the lane ends could get ahead of it; boxed, since the lane goes on as
    // soon as the op is submitted.
    const submitted = this.#lanes.run(COLLECTIVES, async () => ({ work: super.run<T>(opType, start) }));
    const later: Work<T> = Work.fromPromise(
      submitted.then(({ work }) => {
        joinWhole(work, later);
        return outcomeOf(work);
      }),
      { opType, owner: this },
    );
    return later;
  }

  protected override stepsUnderWay(): Promise<unknown> | undefined {
    return this.#lanes.tails();
  }
}
