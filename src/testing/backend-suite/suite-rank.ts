import type { Operation, ReduceOpName } from "../../collectives/index.ts";
import { newGroup } from "../../distributed/index.ts";
import { DistError } from "../../errors/index.ts";
import type { ProcessGroup } from "../../process-group/index.ts";
import { isGuardError } from "../../process-group/pipeline/op-limits.ts";
import type { Capabilities } from "../../registry/index.ts";
import type { Store } from "../../store/index.ts";
import { type Device, type DType, dtypes } from "../../tensor/index.ts";
import type { Work } from "../../work/index.ts";
import { mix } from "./patterns.ts";
import { PlacedTensor } from "./placed-tensor.ts";
import { claimedFor } from "./suite-case.ts";
import type { TensorPlace } from "./tensor-place.ts";

/** Extent of a sweep. */
export interface Sweep {
  readonly full: boolean;
  /** Sizes that all combinations run with in a full sweep. */
  readonly sizes: readonly number[];
  /** Size that all run with in a full sweep, otherwise a sample. */
  readonly large: number;
  /** Determines the sample. */
  readonly seed: number;
}

export interface SuiteRankInit {
  readonly group: ProcessGroup;
  readonly capabilities: Capabilities;
  readonly sweep: Sweep;
  /** Whether `wait()` can block until other ranks have acted. */
  readonly canBlock: boolean;
  /** Store of this case alone, for communication between ranks outside the backend. */
  readonly store: Store;
  /** Where its tensors are to be. */
  readonly place: TensorPlace;
  /** The device of that place; undefined for host memory. */
  readonly device: Device | undefined;
}

/** A rank in one case of the suite, with the means to check results. */
export class SuiteRank {
  readonly group: ProcessGroup;
  readonly rank: number;
  readonly worldSize: number;
  /** All ranks, in order. */
  readonly ranks: readonly number[];
  readonly capabilities: Capabilities;
  readonly sweep: Sweep;
  readonly store: Store;
  /** The device that its tensors are on; undefined for host memory. */
  readonly device: Device | undefined;
  readonly #place: TensorPlace;
  readonly #canBlock: boolean;
  #checks = 0;
  #ops = 0;

  constructor(init: SuiteRankInit) {
    this.group = init.group;
    this.rank = init.group.rank;
    this.worldSize = init.group.size;
    this.ranks = Array.from({ length: init.group.size }, (_, rank) => rank);
    this.capabilities = init.capabilities;
    this.sweep = init.sweep;
    this.store = init.store;
    this.device = init.device;
    this.#place = init.place;
    this.#canBlock = init.canBlock;
  }

  /** Number of checks so far. */
  get checks(): number {
    return this.#checks;
  }

  get isLast(): boolean {
    return this.rank === this.worldSize - 1;
  }

  /**
   * Makes another group of ranks of this one (all by default), in the same setting; null on ranks that are not members.
   * Only for cases with `makesGroups`.
   */
  newGroup(members: readonly number[] = this.ranks): Promise<ProcessGroup | null> {
    const { globalRanks, description } = this.group;
    return newGroup(
      members.map((rank) => globalRanks[rank] ?? rank),
      { description },
    );
  }

  /** Makes a tensor of these bytes. */
  place(dtype: DType, contents: Uint8Array): PlacedTensor {
    return new PlacedTensor(this.#place, dtype, contents);
  }

  /** Makes a tensor of zeros. */
  empty(dtype: DType, length: number): PlacedTensor {
    return this.place(dtype, new Uint8Array(length * dtypes[dtype].size));
  }

  /** dtypes that the backend claims for an op. */
  dtypesOf(op: Operation): readonly DType[] {
    return claimedFor(this.capabilities, op) ?? [];
  }

  /** Pairs of dtype and reduce op that the backend claims for an op. */
  reductionsOf(op: Operation): { readonly dtype: DType; readonly op: ReduceOpName }[] {
    return this.dtypesOf(op).flatMap((dtype) =>
      (this.capabilities.reduceOps[dtype] ?? []).map((reduceOp) => ({ dtype, op: reduceOp })),
    );
  }

  /** Sizes for the i-th of `count` combinations: all in a full sweep, else two in turn, and the large one for a few. */
  sizesFor(i: number, count: number): readonly number[] {
    const { full, sizes, large, seed } = this.sweep;
    if (full) return [...sizes, large];
    const picked = sizes.filter((_, k) => k % 2 === i % 2);
    const sampled = (i + mix(seed, count)) % Math.max(1, Math.ceil(count / 2)) === 0;
    return sampled ? [...picked, large] : picked;
  }

  /** Ends an op, alternately by `wait()`, if that can block, and by `await`. */
  async end<T>(work: Work<T>): Promise<T> {
    this.#ops++;
    if (!this.#canBlock || this.#ops % 2 === 0) return work;
    work.wait();
    return work.result();
  }

  check(holds: boolean, what: string): void {
    this.#checks++;
    if (!holds) throw new Error(what);
  }

  /** Checks that the tensor has exactly these bytes, and that its guards are unchanged. */
  checkBytes(what: string, placed: PlacedTensor, expected: Uint8Array): void {
    const difference = placed.difference(expected);
    this.check(difference === undefined, `${what}: ${difference}`);
  }

  /** Checks that inputs still have the bytes that they were made with, and that their guards are unchanged. */
  checkUnchanged(what: string, inputs: readonly PlacedTensor[]): void {
    for (const [i, input] of inputs.entries()) {
      const difference = input.difference();
      this.check(difference === undefined, `${what}, input${inputs.length === 1 ? "" : ` ${i}`}: ${difference}`);
    }
  }

  /** Checks that the op fails with a DistError within the limit, and returns the error. */
  async rejection(what: string, work: PromiseLike<unknown>, limitMs = 4_000): Promise<DistError> {
    const late = Symbol("late");
    const { promise: limit, resolve } = Promise.withResolvers<symbol>();
    const timer = setTimeout(resolve, limitMs, late);
    const outcome: unknown = await Promise.race([
      limit,
      work.then(
        () => undefined,
        (error: unknown) => error,
      ),
    ]);
    clearTimeout(timer);
    this.check(outcome !== late, `${what} should have failed, but was still pending after ${limitMs} ms`);
    this.check(outcome !== undefined, `${what} should have failed, but succeeded`);
    if (!(outcome instanceof DistError))
      throw new Error(`${what} failed with something other than a DistError: ${String(outcome)}`);
    this.check(
      !isGuardError(outcome),
      `${what} was not ended by the backend, but by the process group: ${outcome.message}`,
    );
    return outcome;
  }
}
