import {
  isTensorList,
  OpType,
  ofRank,
  partOf,
  requireAlike,
  requireDisjoint,
  requireFlag,
  requireLengthAt,
  requireLengths,
  requireOptions,
  requirePerRank,
  requireReduceOp,
  requireSplits,
  requireTensor,
  requireTensors,
  requireTimeout,
  requireTimes,
  whole,
} from "../collectives/index.ts";
import { InvalidArgumentError } from "../errors/index.ts";
import type { TensorLike, TensorView } from "../tensor/index.ts";
import { AllOf, type Work } from "../work/index.ts";
import type {
  AllGatherOptions,
  AllReduceOptions,
  AllToAllListOptions,
  AllToAllSingleOptions,
  BarrierOptions,
  BroadcastOptions,
  GatherOptions,
  MonitoredBarrierCallOptions,
  ReduceScatterOptions,
  ReduceToOptions,
  ScatterOptions,
} from "./call-options.ts";
import { MessageOps } from "./message-ops.ts";

/** A tensor where the other argument is one, a list where it is a list. */
export type OneOrList<T> = T extends readonly TensorLike[] ? readonly TensorLike[] : TensorLike;

/** The collectives of a process group that exchange tensors. */
export abstract class TensorOps extends MessageOps {
  /** See {@link ProcessGroup.allReduce}. */
  allReduce<T extends TensorLike | readonly TensorLike[]>(tensors: T, options: AllReduceOptions = {}): Work<T> {
    const opType = isTensorList(tensors) ? OpType.ALLREDUCE_COALESCED : OpType.ALLREDUCE;
    return this.run<T>(opType, () => {
      requireOptions("allReduce", options);
      const op = requireReduceOp("allReduce", options.op);
      const timeoutMs = requireTimeout("allReduce", options.timeout, this.timeoutMs);
      if (isTensorList(tensors)) {
        const views = requireTensors("allReduce", tensors);
        const first = firstOf("allReduce", views);
        requireDisjoint("allReduce", { argument: "tensors", views }, undefined);
        const backend = this.backendFor("allReduceCoalesced", first.device.type, first.dtype, op);
        return backend.allReduceCoalesced(views, { op, timeoutMs, owner: this });
      }
      const view = requireTensor("allReduce", tensors);
      const backend = this.backendFor("allReduce", view.device.type, view.dtype, op);
      return backend.allReduce(view, { op, timeoutMs, owner: this });
    });
  }

  /**
   * Copies the root's tensor to all ranks.
   *
   * @param options `src` (global rank) or `groupSrc` (rank in this group) names the root.
   *
   * c10d: `broadcast`.
   */
  broadcast<T extends TensorLike>(tensor: T, options: BroadcastOptions): Work<T> {
    return this.run<T>(OpType.BROADCAST, () => {
      requireOptions("broadcast", options);
      const root = this.toGroupRank("broadcast", "src", options.src, options.groupSrc);
      const timeoutMs = requireTimeout("broadcast", options.timeout, this.timeoutMs);
      const view = requireTensor("broadcast", tensor);
      const backend = this.backendFor("broadcast", view.device.type, view.dtype);
      return backend.broadcast(view, { root, timeoutMs, owner: this });
    });
  }

  /**
   * Reduces a tensor over all ranks into the destination's. What the others' tensors hold afterwards is unspecified.
   *
   * @param options `dst` or `groupDst` names the destination.
   *
   * c10d: `reduce`.
   */
  reduce<T extends TensorLike>(tensor: T, options: ReduceToOptions): Work<T> {
    return this.run<T>(OpType.REDUCE, () => {
      requireOptions("reduce", options);
      const op = requireReduceOp("reduce", options.op);
      const root = this.toGroupRank("reduce", "dst", options.dst, options.groupDst);
      const timeoutMs = requireTimeout("reduce", options.timeout, this.timeoutMs);
      const view = requireTensor("reduce", tensor);
      const backend = this.backendFor("reduce", view.device.type, view.dtype, op);
      return backend.reduce(view, { op, root, timeoutMs, owner: this });
    });
  }

  /**
   * Collects the tensors of all ranks on all of them.
   *
   * @param outputs One tensor per rank, each of the input's length.
   * @param input The own tensor, of the same length on all ranks.
   *
   * c10d: `all_gather`.
   */
  allGather<T extends readonly TensorLike[]>(outputs: T, input: TensorLike, options: AllGatherOptions = {}): Work<T> {
    return this.run<T>(OpType.ALLGATHER, () => {
      requireOptions("allGather", options);
      const timeoutMs = requireTimeout("allGather", options.timeout, this.timeoutMs);
      const source = requireTensor("allGather", input, "input");
      const targets = this.#perRank("allGather", "outputs", outputs, source, "input");
      this.#requireGathered("allGather", targets, source);
      const backend = this.backendFor("allGather", source.device.type, source.dtype);
      return backend.allGather(targets, source, { timeoutMs, owner: this });
    });
  }

  /**
   * Collects the tensors of all ranks in one: part `rank` of the output is that rank's input.
   *
   * @param output World size times the length of the input. A list of outputs with a list of as many inputs, all of one
   *   dtype, is one op where the backend can do that.
   *
   * c10d: `all_gather_into_tensor`, `_allgather_base`, `allgather_into_tensor_coalesced`.
   */
  allGatherIntoTensor<T extends TensorLike | readonly TensorLike[]>(
    output: T,
    input: OneOrList<T>,
    options: AllGatherOptions = {},
  ): Work<T> {
    const name = "allGatherIntoTensor";
    const lists = isTensorList(output) || isTensorList(input);
    const opType = lists ? OpType.ALLGATHER_COALESCED : OpType.ALLGATHER_BASE;
    return this.run<T>(opType, () => {
      requireOptions(name, options);
      const timeoutMs = requireTimeout(name, options.timeout, this.timeoutMs);
      const call = { timeoutMs, owner: this };
      if (lists) {
        const { wholes, parts, first } = this.#pairs(name, "outputs", output, "inputs", input);
        requireDisjoint(
          name,
          { argument: "outputs", views: wholes, own: partOf(this.rank, this.size), inPairs: true },
          { argument: "inputs", views: parts, own: whole },
        );
        const backend = this.backendFor(name, first.device.type, first.dtype);
        if (this.canDo("allGatherIntoTensorCoalesced", first.device.type, first.dtype)) {
          return backend.allGatherIntoTensorCoalesced(wholes, parts, call);
        }
        const works = parts.map((part, i) => backend.allGatherIntoTensor(at(wholes, i), part, { timeoutMs }));
        return new AllOf(works, output, { opType, owner: this });
      }
      const source = requireTensor(name, input, "input");
      const target = requireTensor(name, output, "output");
      requireAlike(name, source, "input", target, "output");
      requireTimes(name, target, "output", source, "input", this.size);
      requireDisjoint(
        name,
        { argument: "output", views: [target], own: partOf(this.rank, this.size) },
        { argument: "input", views: [source], own: whole },
      );
      const backend = this.backendFor(name, source.device.type, source.dtype);
      return backend.allGatherIntoTensor(target, source, call);
    });
  }

  /**
   * Collects the tensors of all ranks on the destination.
   *
   * @param options `dst` or `groupDst` names the destination, which alone gives `outputs`: one tensor per rank.
   * @returns Work of `outputs` on the destination, of `undefined` elsewhere.
   *
   * c10d: `gather`.
   */
  gather(input: TensorLike, options: GatherOptions): Work<readonly TensorLike[] | undefined> {
    return this.run(OpType.GATHER, () => {
      requireOptions("gather", options);
      const root = this.toGroupRank("gather", "dst", options.dst, options.groupDst);
      const timeoutMs = requireTimeout("gather", options.timeout, this.timeoutMs);
      const source = requireTensor("gather", input, "input");
      const outputs = this.#listAtRoot("gather", "outputs", "destination", options.outputs, root);
      const targets = outputs === undefined ? [] : this.#perRank("gather", "outputs", outputs, source, "input");
      this.#requireGathered("gather", targets, source);
      const backend = this.backendFor("gather", source.device.type, source.dtype);
      return backend.gather(targets, source, { root, timeoutMs, owner: this });
    });
  }

  /**
   * Distributes the tensors of the source: `inputs[rank]` goes to that rank's output.
   *
   * @param options `src` or `groupSrc` names the source, which alone gives `inputs`: one tensor per rank.
   *
   * c10d: `scatter`.
   */
  scatter<T extends TensorLike>(output: T, options: ScatterOptions): Work<T> {
    return this.run<T>(OpType.SCATTER, () => {
      requireOptions("scatter", options);
      const root = this.toGroupRank("scatter", "src", options.src, options.groupSrc);
      const timeoutMs = requireTimeout("scatter", options.timeout, this.timeoutMs);
      const target = requireTensor("scatter", output, "output");
      const inputs = this.#listAtRoot("scatter", "inputs", "source", options.inputs, root);
      const sources = inputs === undefined ? [] : this.#perRank("scatter", "inputs", inputs, target, "output");
      this.#requireScattered("scatter", target, sources);
      const backend = this.backendFor("scatter", target.device.type, target.dtype);
      return backend.scatter(target, sources, { root, timeoutMs, owner: this });
    });
  }

  /**
   * Reduces `inputs[rank]` of all ranks into that rank's output.
   *
   * @param inputs One tensor per rank, as long as that rank's output.
   *
   * c10d: `reduce_scatter`.
   */
  reduceScatter<T extends TensorLike>(
    output: T,
    inputs: readonly TensorLike[],
    options: ReduceScatterOptions = {},
  ): Work<T> {
    return this.run<T>(OpType.REDUCE_SCATTER, () => {
      requireOptions("reduceScatter", options);
      const op = requireReduceOp("reduceScatter", options.op);
      const timeoutMs = requireTimeout("reduceScatter", options.timeout, this.timeoutMs);
      const target = requireTensor("reduceScatter", output, "output");
      const sources = requireTensors("reduceScatter", inputs, "inputs");
      requirePerRank("reduceScatter", "inputs", sources, this.size);
      requireAlike("reduceScatter", target, "output", firstOf("reduceScatter", sources), "inputs");
      requireLengthAt("reduceScatter", "inputs", sources, this.rank, target, "output");
      this.#requireScattered("reduceScatter", target, sources);
      const backend = this.backendFor("reduceScatter", target.device.type, target.dtype, op);
      return backend.reduceScatter(target, sources, { op, timeoutMs, owner: this });
    });
  }

  /**
   * Reduces part `rank` of the inputs of all ranks into that rank's output.
   *
   * @param input World size times the length of the output. A list of outputs with a list of as many inputs, all of one
   *   dtype, is one op where the backend can do that.
   *
   * c10d: `reduce_scatter_tensor`, `_reduce_scatter_base`, `reduce_scatter_tensor_coalesced`.
   */
  reduceScatterTensor<T extends TensorLike | readonly TensorLike[]>(
    output: T,
    input: OneOrList<T>,
    options: ReduceScatterOptions = {},
  ): Work<T> {
    const name = "reduceScatterTensor";
    const lists = isTensorList(output) || isTensorList(input);
    const opType = lists ? OpType.REDUCE_SCATTER_TENSOR_COALESCED : OpType.REDUCE_SCATTER_BASE;
    return this.run<T>(opType, () => {
      requireOptions(name, options);
      const op = requireReduceOp(name, options.op);
      const timeoutMs = requireTimeout(name, options.timeout, this.timeoutMs);
      const call = { op, timeoutMs, owner: this };
      if (lists) {
        const { wholes, parts, first } = this.#pairs(name, "inputs", input, "outputs", output);
        requireDisjoint(
          name,
          { argument: "outputs", views: parts, own: whole, inPairs: true },
          { argument: "inputs", views: wholes, own: partOf(this.rank, this.size) },
        );
        const backend = this.backendFor(name, first.device.type, first.dtype, op);
        if (this.canDo("reduceScatterTensorCoalesced", first.device.type, first.dtype, op)) {
          return backend.reduceScatterTensorCoalesced(parts, wholes, call);
        }
        const works = parts.map((part, i) => backend.reduceScatterTensor(part, at(wholes, i), { op, timeoutMs }));
        return new AllOf(works, output, { opType, owner: this });
      }
      const target = requireTensor(name, output, "output");
      const source = requireTensor(name, input, "input");
      requireAlike(name, target, "output", source, "input");
      requireTimes(name, source, "input", target, "output", this.size);
      requireDisjoint(
        name,
        { argument: "output", views: [target], own: whole },
        { argument: "input", views: [source], own: partOf(this.rank, this.size) },
      );
      const backend = this.backendFor(name, target.device.type, target.dtype, op);
      return backend.reduceScatterTensor(target, source, call);
    });
  }

  /**
   * Sends `inputs[rank]` to each rank and receives `outputs[rank]` from it.
   *
   * @param outputs One tensor per rank, as long as what that rank sends here.
   * @param inputs One tensor per rank.
   *
   * c10d: `all_to_all`.
   */
  allToAll<T extends readonly TensorLike[]>(
    outputs: T,
    inputs: readonly TensorLike[],
    options: AllToAllListOptions = {},
  ): Work<T> {
    return this.run<T>(OpType.ALLTOALL, () => {
      requireOptions("allToAll", options);
      const timeoutMs = requireTimeout("allToAll", options.timeout, this.timeoutMs);
      const targets = requireTensors("allToAll", outputs, "outputs");
      const sources = requireTensors("allToAll", inputs, "inputs");
      requirePerRank("allToAll", "outputs", targets, this.size);
      requirePerRank("allToAll", "inputs", sources, this.size);
      const first = firstOf("allToAll", sources);
      requireAlike("allToAll", first, "inputs", firstOf("allToAll", targets), "outputs");
      requireLengthAt("allToAll", "outputs", targets, this.rank, at(sources, this.rank), `inputs[${this.rank}]`);
      requireDisjoint(
        "allToAll",
        { argument: "outputs", views: targets, own: whole, inPairs: true },
        { argument: "inputs", views: sources, own: whole },
      );
      const backend = this.backendFor("allToAll", first.device.type, first.dtype);
      return backend.allToAll(targets, sources, { timeoutMs, owner: this });
    });
  }

  /**
   * Sends a part of the input to each rank and receives a part of the output from it, in the order of ranks.
   *
   * c10d: `all_to_all_single`, `alltoall_base`.
   */
  allToAllSingle<T extends TensorLike>(output: T, input: TensorLike, options: AllToAllSingleOptions = {}): Work<T> {
    return this.run<T>(OpType.ALLTOALL_BASE, () => {
      const name = "allToAllSingle";
      requireOptions(name, options);
      const timeoutMs = requireTimeout(name, options.timeout, this.timeoutMs);
      const target = requireTensor(name, output, "output");
      const source = requireTensor(name, input, "input");
      requireAlike(name, source, "input", target, "output");
      const inputSplits = requireSplits(name, "inputSplits", options.inputSplits, source, this.size);
      const outputSplits = requireSplits(name, "outputSplits", options.outputSplits, target, this.size);
      if (inputSplits[this.rank] !== outputSplits[this.rank]) {
        throw new InvalidArgumentError(
          `${name}: this rank would send itself ${inputSplits[this.rank]} elements but expects ${outputSplits[this.rank]}`,
          { op: name, argument: "outputSplits" },
        );
      }
      requireDisjoint(
        name,
        { argument: "output", views: [target], own: whole },
        { argument: "input", views: [source], own: whole },
      );
      const backend = this.backendFor(name, source.device.type, source.dtype);
      const equal = options.inputSplits === undefined && options.outputSplits === undefined;
      const splits = equal ? { inputSplits: [], outputSplits: [] } : { inputSplits, outputSplits };
      return backend.allToAllSingle(target, source, { ...splits, timeoutMs, owner: this });
    });
  }

  /** Completes when all ranks have come to it. c10d: `barrier`. */
  barrier(options: BarrierOptions = {}): Work<void> {
    return this.run<void>(OpType.BARRIER, () => {
      requireOptions("barrier", options);
      const timeoutMs = requireTimeout("barrier", options.timeout, this.timeoutMs);
      const backend = this.backendFor("barrier", this.defaultDevice());
      return backend.barrier({ timeoutMs, owner: this });
    });
  }

  /**
   * A barrier whose time-out, on rank 0, names the ranks that did not come. Slower than {@link barrier}.
   *
   * c10d: `monitored_barrier`.
   */
  monitoredBarrier(options: MonitoredBarrierCallOptions = {}): Work<void> {
    return this.run<void>(OpType.BARRIER, () => {
      requireOptions("monitoredBarrier", options);
      const timeoutMs = requireTimeout("monitoredBarrier", options.timeout, this.timeoutMs);
      const waitAllRanks = requireFlag("monitoredBarrier", "waitAllRanks", options.waitAllRanks);
      const backend = this.backendFor("monitoredBarrier", this.defaultDevice());
      return backend.monitoredBarrier({ waitAllRanks, timeoutMs, owner: this });
    });
  }

  /** Refuses overlaps where what all ranks give comes to a list. */
  #requireGathered(op: string, outputs: readonly TensorView[], input: TensorView): void {
    requireDisjoint(
      op,
      { argument: "outputs", views: outputs, own: ofRank(this.rank) },
      { argument: "input", views: [input], own: whole },
    );
  }

  /** The same where a list is given away. */
  #requireScattered(op: string, output: TensorView, inputs: readonly TensorView[]): void {
    requireDisjoint(
      op,
      { argument: "output", views: [output], own: whole },
      { argument: "inputs", views: inputs, own: ofRank(this.rank) },
    );
  }

  /** A list of one tensor per rank, all like `like`. */
  #perRank(op: string, argument: string, list: readonly TensorLike[], like: TensorView, name: string): TensorView[] {
    const views = requireTensors(op, list, argument);
    requirePerRank(op, argument, views, this.size);
    requireAlike(op, like, name, firstOf(op, views), argument);
    requireLengths(op, argument, views, like, name);
    return views;
  }

  /** Two lists of as many tensors, where each of the first is world size times as long as its partner. */
  #pairs(
    op: string,
    wholeName: string,
    wholeList: TensorLike | readonly TensorLike[],
    partName: string,
    partList: TensorLike | readonly TensorLike[],
  ): { wholes: TensorView[]; parts: TensorView[]; first: TensorView } {
    const wholes = requireTensors(op, wholeList as readonly TensorLike[], wholeName);
    const parts = requireTensors(op, partList as readonly TensorLike[], partName);
    if (wholes.length !== parts.length) {
      throw new InvalidArgumentError(
        `${op}: ${wholeName} and ${partName} must be of one length: ${wholes.length} and ${parts.length} tensors`,
        { op, argument: wholeName },
      );
    }
    const first = firstOf(op, parts);
    requireAlike(op, first, partName, firstOf(op, wholes), wholeName);
    parts.forEach((part, i) => {
      requireTimes(op, at(wholes, i), `${wholeName}[${i}]`, part, `${partName}[${i}]`, this.size);
    });
    return { wholes, parts, first };
  }

  /** A list that the root alone must give. */
  #listAtRoot(
    op: string,
    argument: string,
    role: string,
    list: readonly TensorLike[] | undefined,
    root: number,
  ): readonly TensorLike[] | undefined {
    if ((list !== undefined) === (this.rank === root)) return list;
    const rule =
      list === undefined ? `must be given on the ${role} rank` : `must not be given on other than the ${role} rank`;
    throw new InvalidArgumentError(`${op}: ${argument} ${rule}`, { op, argument });
  }
}

function firstOf(op: string, views: readonly TensorView[]): TensorView {
  const [first] = views;
  if (first === undefined)
    throw new InvalidArgumentError(`${op}: an empty list of tensors`, { op, code: "EMPTY_LIST" });
  return first;
}

function at(views: readonly TensorView[], i: number): TensorView {
  const view = views[i];
  if (view === undefined) throw new RangeError(`there is no tensor ${i} in a list of ${views.length}`);
  return view;
}
