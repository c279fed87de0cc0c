import { OpType, ReduceOp, requireOptions, requireReduceOp, requireTag, requireTimeout } from "../collectives/index.ts";
import { InvalidArgumentError, UnsupportedOperationError } from "../errors/index.ts";
import type { Backend, OpName } from "../registry/index.ts";
import { type DeviceType, type DType, describe, SparseTensor, type TensorLike } from "../tensor/index.ts";
import { AllOf, Work } from "../work/index.ts";
import type {
  AllGatherObjectOptions,
  AllReduceOptions,
  BroadcastObjectOptions,
  GatherObjectOptions,
  ObjectOptions,
  RecvObjectOptions,
  ScatterObjectOptions,
  SendObjectOptions,
} from "./call-options.ts";
import { Coalescing } from "./coalescing.ts";
import {
  allGatherObjects,
  broadcastObject,
  gatherObjects,
  type ObjectCall,
  recvObject,
  scatterObjects,
  sendObject,
} from "./object-collectives.ts";
import { OpLanes } from "./op-lanes.ts";
import { TensorOps } from "./tensor-ops.ts";

/** Limit of one object in an object collective, unless the call says otherwise. */
const MAX_OBJECT_BYTES = 64 * 2 ** 20;

/** Lane of the object collectives of a group, which other collectives have to wait for. */
const COLLECTIVES = "collectives";

/**
 * A group of ranks. Ops go to the backend of their tensors' device; all ranks issue the collectives of one group in the
 * same order, with the same dtypes and sizes.
 *
 * Every op returns a {@link Work}. It rejects with InvalidArgumentError or UnsupportedOperationError when nothing was
 * sent, else with DistTimeoutError, DistNetworkError or DistBackendError, after which the group has failed.
 *
 * The object collectives take plain data: what JSON has, bigint, Date, Map, Set, ArrayBuffer and TypedArrays, of which
 * receivers get copies; `undefined` in a list or at the top becomes `null`. They take several steps, so their Work is
 * for `await` and not for `wait()`, and collectives that are called meanwhile start after them. All ranks of the group
 * have to be Bun ranks.
 *
 * `await using` a group aborts what is in flight at the end of the block and closes it within a second;
 * `destroyProcessGroup()` waits for it instead.
 *
 * c10d: `ProcessGroup`.
 */
export class ProcessGroup extends TensorOps {
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
      return Work.rejected(new InvalidArgumentError(message, { op: "coalescing" }), init);
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
    } catch (error) {
      refusal = error ?? new InvalidArgumentError(`coalescing: the function threw ${describe(error)}`);
    } finally {
      this.#coalescing = undefined;
    }
    if (refusal !== undefined) {
      const failed = Work.rejected<void>(refusal, init);
      coalescing.discard(refusal);
      return failed;
    }
    return this.run<void>(OpType.COALESCED, () => {
      coalescing.submit((op, { device, dtype }, reduceOp) => this.canDo(op, device.type, dtype, reduceOp));
      return new AllOf(coalescing.works, undefined, init);
    });
  }

  /**
   * Reduces a tensor over all ranks, in place on all of them; a list of tensors of one dtype is reduced as one op.
   *
   * Of a {@link SparseTensor}, all ranks get the sum as a new one, with each index once; its own is left as it is. That
   * takes several steps, so `await` it; it adds only (`ReduceOp.SUM`).
   *
   * c10d: `all_reduce`, `all_reduce_coalesced`.
   */
  override allReduce<T extends TensorLike | readonly TensorLike[] | SparseTensor>(
    tensors: T,
    options: AllReduceOptions = {},
  ): Work<T> {
    if (!(tensors instanceof SparseTensor)) {
      return super.allReduce(tensors as Exclude<T, SparseTensor>, options) as Work<T>;
    }
    const name = "allReduce";
    return super.run<T>(OpType.ALLREDUCE_SPARSE, () => {
      requireOptions(name, options);
      const op = requireReduceOp(name, options.op);
      const timeoutMs = requireTimeout(name, options.timeout, this.timeoutMs);
      if (op !== ReduceOp.SUM) {
        throw new UnsupportedOperationError(
          `${name}: sparse tensors can be added only, not combined by ReduceOp.${op}`,
          {
            op: name,
            argument: "op",
          },
        );
      }
      this.#requireNoCoalescing(name);
      const backend = this.backendFor("allReduceSparse", "cpu", tensors.dtype);
      const sum = this.#lanes.run(COLLECTIVES, async () => await backend.allReduceSparse(tensors, { timeoutMs }));
      return Work.fromPromise(sum, { opType: OpType.ALLREDUCE_SPARSE, owner: this });
    });
  }

  /**
   * Collects an object of each rank on all of them, in the order of ranks.
   *
   * c10d: `all_gather_object`.
   */
  allGatherObject<T>(object: T, options: AllGatherObjectOptions = {}): Work<T[]> {
    return this.#objects("allGatherObject", OpType.ALLGATHER, ["allGatherIntoTensor"], options, () => {
      return (call) => allGatherObjects(call, object);
    });
  }

  /**
   * Collects an object of each rank on the destination.
   *
   * @param options `dst` or `groupDst` names the destination.
   * @returns Work of the objects on the destination, of `undefined` elsewhere.
   *
   * c10d: `gather_object`.
   */
  gatherObject<T>(object: T, options: GatherObjectOptions): Work<T[] | undefined> {
    return this.#objects("gatherObject", OpType.GATHER, ["allGatherIntoTensor", "gather"], options, () => {
      const root = this.toGroupRank("gatherObject", "dst", options.dst, options.groupDst);
      return (call) => gatherObjects(call, object, root);
    });
  }

  /**
   * Copies the source's object to all ranks.
   *
   * @param object Looked at on the source only.
   * @param options `src` or `groupSrc` names the source.
   * @returns Work of the object; the source gets a copy too.
   *
   * c10d: `broadcast_object_list`.
   */
  broadcastObject<T>(object: T | undefined, options: BroadcastObjectOptions): Work<T> {
    return this.#objects("broadcastObject", OpType.BROADCAST, ["broadcast"], options, () => {
      const root = this.toGroupRank("broadcastObject", "src", options.src, options.groupSrc);
      return (call) => broadcastObject(call, object, root);
    });
  }

  /**
   * Distributes the source's objects: each rank gets the one at its rank.
   *
   * @param objects On the source one object per rank, elsewhere `undefined`.
   * @param options `src` or `groupSrc` names the source.
   *
   * c10d: `scatter_object_list`.
   */
  scatterObject<T>(objects: readonly T[] | undefined, options: ScatterObjectOptions): Work<T> {
    const name = "scatterObject";
    return this.#objects(name, OpType.SCATTER, ["broadcast", "scatter"], options, () => {
      const root = this.toGroupRank(name, "src", options.src, options.groupSrc);
      const own = this.rank === root ? this.#objectPerRank(name, objects) : undefined;
      return (call) => scatterObjects(call, own, root);
    });
  }

  /**
   * Sends an object to one rank, which has to {@link recvObject} it with the same tag.
   *
   * c10d: `send_object_list`.
   */
  sendObject(object: unknown, options: SendObjectOptions): Work<void> {
    return this.#objects("sendObject", OpType.SEND, ["send"], options, () => {
      const peer = this.otherRank("sendObject", "dst", options.dst, options.groupDst);
      const tag = requireTag("sendObject", options.tag);
      return (call) => sendObject(call, object, peer, tag);
    });
  }

  /**
   * Receives an object from one rank, or from any if none is named; `sourceRank()` of the Work tells from which.
   *
   * c10d: `recv_object_list`.
   */
  recvObject<T>(options: RecvObjectOptions = {}): Work<T> {
    const any = options?.src === undefined && options?.groupSrc === undefined;
    let source = -1;
    const note = (globalRank: number): number => {
      source = globalRank;
      return this.groupRankOf(globalRank);
    };
    const opType = any ? OpType.RECV_ANY_SOURCE : OpType.RECV;
    return this.#objects(
      "recvObject",
      opType,
      ["recv"],
      options,
      () => {
        const peer = any ? -1 : this.otherRank("recvObject", "src", options.src, options.groupSrc);
        if (any) this.requireAnySource("cpu");
        else note(this.globalRanks[peer] ?? peer);
        const tag = requireTag("recvObject", options.tag);
        return (call) => recvObject(call, peer, tag, note);
      },
      () => source,
    );
  }

  /**
   * Starts an object collective behind those that are under way.
   * @param prepare Checks the arguments, which happens at once, and returns the steps.
   */
  #objects<T>(
    op: string,
    opType: OpType,
    needs: readonly OpName[],
    options: ObjectOptions & { readonly tag?: number },
    prepare: () => (call: ObjectCall) => Promise<unknown>,
    sourceRank?: () => number,
  ): Work<T> {
    const work = super.run<T>(opType, () => {
      requireOptions(op, options);
      this.#requireNoCoalescing(op);
      const timeoutMs = requireTimeout(op, options.timeout, this.timeoutMs);
      const maxBytes = options.maxBytes ?? MAX_OBJECT_BYTES;
      if (!Number.isSafeInteger(maxBytes) || maxBytes < 1) {
        throw new InvalidArgumentError(`${op}: maxBytes must be a positive integer, got ${describe(maxBytes)}`, {
          op,
          argument: "maxBytes",
        });
      }
      const [backend] = needs.map((need) => this.backendFor(need, "cpu", "uint8"));
      if (backend === undefined) throw new InvalidArgumentError(`${op}: no op to make it of`);
      const steps = prepare();
      const deadline = performance.now() + timeoutMs;
      const lane = isMessage(opType) ? `${op} ${options.tag ?? 0}` : COLLECTIVES;
      const result = this.#lanes.run(lane, () => steps({ op, backend, maxBytes, deadline }));
      return Work.fromPromise(result, { opType, owner: this, ...(sourceRank && { sourceRank }) });
    });
    this.#coalescing?.note(work);
    return work;
  }

  #requireNoCoalescing(op: string): void {
    if (this.#coalescing === undefined) return;
    throw new InvalidArgumentError(`${op}: what takes several steps cannot be coalesced`, { op });
  }

  #objectPerRank<T>(op: string, objects: readonly T[] | undefined): readonly T[] {
    if (Array.isArray(objects) && objects.length === this.size) return objects;
    const given = Array.isArray(objects) ? `${objects.length} objects` : describe(objects);
    throw new InvalidArgumentError(`${op}: the source gives one object per rank (${this.size}), got ${given}`, {
      op,
      argument: "objects",
    });
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
    const turn = isMessage(opType) ? undefined : this.#lanes.tail(COLLECTIVES);
    if (turn === undefined) return super.run<T>(opType, start);
    return Work.fromPromise(
      turn.then(() => super.run<T>(opType, start)),
      { opType, owner: this },
    );
  }

  protected override stepsUnderWay(): Promise<unknown> | undefined {
    return this.#lanes.tails();
  }
}

function isMessage(opType: OpType): boolean {
  return opType === OpType.SEND || opType === OpType.RECV || opType === OpType.RECV_ANY_SOURCE;
}
