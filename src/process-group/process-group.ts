import {
  isMessage,
  OpType,
  ReduceOp,
  requireOptions,
  requireReduceOp,
  requireTag,
  requireTimeout,
} from "../collectives/index.ts";
import { brand, type DistError, describe, InvalidArgumentError, UnsupportedOperationError } from "../errors/index.ts";
import type { OpName } from "../registry/index.ts";
import { SparseTensor, type TensorLike } from "../tensor/index.ts";
import type { Work } from "../work/index.ts";
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
import { type P2POp, refuseBatch, requireBatch, standsFor, startBatch } from "./message-batch.ts";
import {
  allGatherObjects,
  broadcastObject,
  gatherObjects,
  type ObjectCall,
  type PackedObject,
  packObject,
  recvObject,
  scatterObjects,
  sendObject,
} from "./object-collectives.ts";
import { OrderedOps } from "./ordered-ops.ts";

/** Limit of one object in an object collective, unless the call says otherwise. */
const MAX_OBJECT_BYTES = 64 * 2 ** 20;

/**
 * A group of ranks. Ops go to the backend of their tensors' device; all ranks issue the collectives of one group in the
 * same order, with the same dtypes and sizes.
 *
 * Tensors are lent to an op until its Work has ended: nobody else writes to them meanwhile, and their buffers stay where
 * they are. Detaching a buffer loses the result (`DETACHED_BUFFER`), and with more than 4 KB in the op the group, since
 * native code may have damaged other memory by then; that of `empty()` cannot be detached. Tensors that an op writes to
 * overlap nothing else of the call, but for what a rank gives to itself (`OVERLAPPING_TENSORS`). See docs/tensors.md.
 *
 * Every op returns a {@link Work}. It rejects with InvalidArgumentError or UnsupportedOperationError when nothing was
 * sent, else with DistTimeoutError, DistNetworkError or DistBackendError, after which the group has failed.
 *
 * The object collectives take plain data (docs/objects.md): what JSON has, undefined, bigint, Date, Map, Set, ArrayBuffer
 * and TypedArrays, of which receivers get copies. An object is encoded at the call; one that would arrive as something
 * else is refused (`OBJECT_NOT_SENDABLE`). They take several steps, so their Work is for `await` and not for `wait()`, and
 * collectives that are called meanwhile start after them. All ranks of the group have to be Bun ranks.
 *
 * `await using` a group aborts what is in flight at the end of the block and closes it within a second;
 * `destroyProcessGroup()` waits for it instead.
 *
 * c10d: `ProcessGroup`.
 */
export class ProcessGroup extends OrderedOps {
  static {
    brand(ProcessGroup, "ProcessGroup");
  }

  /**
   * Starts a list of sends and receives of this group together. If one of them is refused, none is sent and the Works of
   * all reject.
   *
   * @returns A Work for each, in their order.
   *
   * c10d: `batch_isend_irecv`.
   */
  batchIsendIrecv(ops: readonly P2POp<ProcessGroup>[]): Work<TensorLike>[] {
    try {
      const group = requireBatch(ops);
      if (group === undefined || group === this) return startBatch(this, ops);
      const message = `batchIsendIrecv: the messages name another group than "${this.name}", whose method this is`;
      throw new InvalidArgumentError(message, { op: "batchIsendIrecv", argument: "ops", group: this.name });
    } catch (error) {
      return refuseBatch(ops, error, this);
    }
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
    // Arrays first: `instanceof` of our own classes takes some 50 ns.
    if (ArrayBuffer.isView(tensors) || !(tensors instanceof SparseTensor)) {
      return super.allReduce(tensors as Exclude<T, SparseTensor>, options) as Work<T>;
    }
    const name = "allReduce";
    return this.runSteps<T>(name, OpType.ALLREDUCE_SPARSE, () => {
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
      const backend = this.backendFor("allReduceSparse", "cpu", tensors.dtype);
      return { body: async () => await backend.allReduceSparse(tensors, { timeoutMs }) };
    });
  }

  /**
   * Collects an object of each rank on all of them, in the order of ranks.
   *
   * c10d: `all_gather_object`.
   */
  allGatherObject<T>(object: T, options: AllGatherObjectOptions = {}): Work<T[]> {
    return this.#objects("allGatherObject", OpType.ALLGATHER, ["allGatherIntoTensor"], options, (pack) => {
      const packed = pack(object);
      return (call) => allGatherObjects(call, packed);
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
    return this.#objects("gatherObject", OpType.GATHER, ["allGatherIntoTensor", "gather"], options, (pack) => {
      const root = this.toGroupRank("gatherObject", "dst", options.dst, options.groupDst);
      const packed = pack(object);
      return (call) => gatherObjects(call, packed, root);
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
    return this.#objects("broadcastObject", OpType.BROADCAST, ["broadcast"], options, (pack) => {
      const root = this.toGroupRank("broadcastObject", "src", options.src, options.groupSrc);
      const packed = this.rank === root ? pack(object) : undefined;
      return (call) => broadcastObject(call, packed, root);
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
    return this.#objects(name, OpType.SCATTER, ["broadcast", "scatter"], options, (pack) => {
      const root = this.toGroupRank(name, "src", options.src, options.groupSrc);
      const packed =
        this.rank === root ? Array.from(this.#objectPerRank(name, objects), (each) => pack(each)) : undefined;
      return (call) => scatterObjects(call, packed, root);
    });
  }

  /**
   * Sends an object to one rank, which has to {@link recvObject} it with the same tag.
   *
   * c10d: `send_object_list`.
   */
  sendObject(object: unknown, options: SendObjectOptions): Work<void> {
    return this.#objects("sendObject", OpType.SEND, ["send"], options, (pack) => {
      const peer = this.otherRank("sendObject", "dst", options.dst, options.groupDst);
      const tag = requireTag("sendObject", options.tag);
      const packed = pack(object);
      return (call) => sendObject(call, packed, peer, tag);
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
   * @param prepare Checks the arguments and packs the objects, which happens at once, and returns the steps.
   */
  #objects<T>(
    op: string,
    opType: OpType,
    needs: readonly OpName[],
    options: ObjectOptions & { readonly tag?: number },
    prepare: (pack: (object: unknown) => PackedObject) => (call: ObjectCall) => Promise<unknown>,
    sourceRank?: () => number,
  ): Work<T> {
    return this.runSteps<T>(op, opType, () => {
      requireOptions(op, options);
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
      let refusal: DistError | undefined;
      const steps = prepare((object) => {
        const packed = packObject(op, maxBytes, object);
        refusal ??= packed.error;
        return packed;
      });
      const deadline = performance.now() + timeoutMs;
      const body = () => steps({ op, backend, maxBytes, deadline });
      return {
        body,
        refusal,
        ...(isMessage(opType) && { lane: `${op} ${options.tag ?? 0}` }),
        ...(sourceRank && { sourceRank }),
      };
    });
  }

  #objectPerRank<T>(op: string, objects: readonly T[] | undefined): readonly T[] {
    if (Array.isArray(objects) && objects.length === this.size) return objects;
    const given = Array.isArray(objects) ? `${objects.length} objects` : describe(objects);
    throw new InvalidArgumentError(`${op}: the source gives one object per rank (${this.size}), got ${given}`, {
      op,
      argument: "objects",
    });
  }
}

standsFor("send", ProcessGroup.prototype.send, ProcessGroup.prototype.isend);
standsFor("recv", ProcessGroup.prototype.recv, ProcessGroup.prototype.irecv);
