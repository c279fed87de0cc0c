import { type OptionNames, requireOptionNames } from "../../collectives/option-names.ts";
import { requireFlag } from "../../collectives/validate.ts";
import { brand, describe, describeNumber, InvalidArgumentError } from "../../errors/index.ts";
import type { ProcessGroup } from "../../process-group/index.ts";
import { loggerOf } from "../../registry/index.ts";
import { type CommHook, pipelined } from "../comm-hook.ts";
import type { GradBucket } from "../grad-bucket.ts";
import { allReduceHook } from "./default-hooks.ts";

/** Options of {@link PostLocalSGDState}. */
export interface PostLocalSGDOptions {
  /** The ranks that average their gradients at the start; by default those of the bucket. c10d: `process_group`. */
  readonly group?: ProcessGroup;
  /** The ranks near this one that average their gradients later, such as those of its host: of `newGroup()`. */
  readonly subgroup?: ProcessGroup;
  /** Number of iterations whose gradients are averaged over `group`. c10d: `start_localSGD_iter`. */
  readonly startLocalSGDIter: number;
  /** Whether gradients are averaged over `subgroup` later, or not at all. Default: true. */
  readonly postLocalGradientAllreduce?: boolean;
}

const optionNames: OptionNames<PostLocalSGDOptions> = {
  group: true,
  subgroup: true,
  startLocalSGDIter: true,
  postLocalGradientAllreduce: true,
};

/**
 * Options of {@link postLocalSGDHook}, and the number of iterations.
 *
 * c10d: `PostLocalSGDState`. PyTorch makes a subgroup for each host where none is given and there are accelerators.
 */
export class PostLocalSGDState {
  static {
    brand(PostLocalSGDState, "PostLocalSGDState");
  }
  readonly group: ProcessGroup | undefined;
  readonly subgroup: ProcessGroup | undefined;
  readonly startLocalSGDIter: number;
  readonly postLocalGradientAllreduce: boolean;
  #iter = 0;

  /**
   * @throws InvalidArgumentError for an unknown option, a number of iterations that is no integer from 0 on, or without
   *   the subgroup over which gradients are to be averaged.
   */
  constructor(options: PostLocalSGDOptions) {
    requireOptionNames("PostLocalSGDState", options, optionNames);
    const { group, subgroup, startLocalSGDIter, postLocalGradientAllreduce = true } = options;
    this.group = group;
    this.subgroup = subgroup;
    if (!Number.isSafeInteger(startLocalSGDIter) || startLocalSGDIter < 0) {
      throw new InvalidArgumentError(
        `PostLocalSGDState: startLocalSGDIter must be an integer from 0 on, got ${describeNumber(startLocalSGDIter)}`,
        { argument: "startLocalSGDIter" },
      );
    }
    this.startLocalSGDIter = startLocalSGDIter;
    this.postLocalGradientAllreduce = requireFlag(
      "PostLocalSGDState",
      "postLocalGradientAllreduce",
      postLocalGradientAllreduce,
    );
    if (this.postLocalGradientAllreduce && (subgroup === undefined || subgroup === null)) {
      throw new InvalidArgumentError(
        `PostLocalSGDState: subgroup must be the group of this rank, got ${describe(subgroup)}; make one for each host with newGroup(), or set postLocalGradientAllreduce: false`,
        { argument: "subgroup" },
      );
    }
  }

  /** Number of iterations so far, up to the first local one. */
  get iter(): number {
    return this.#iter;
  }

  /**
   * Counts an iteration if a bucket is its last.
   * @internal c10d: `maybe_increase_iter`.
   */
  maybeIncreaseIter(bucket: GradBucket): void {
    if (!bucket.isLast()) return;
    this.#iter++;
    if (this.#iter === this.startLocalSGDIter) {
      loggerOf().info(`Start to apply local SGD after ${this.#iter} iterations.`);
    }
  }
}

/**
 * Averages gradients over all ranks in the first iterations, and then only over those of a subgroup, or not at all. The
 * models of the subgroups then drift apart: a `PeriodicModelAverager` averages them from time to time.
 *
 * One all-reduce for each bucket.
 *
 * c10d: `post_localSGD_hook`.
 */
export const postLocalSGDHook: CommHook<PostLocalSGDState> = pipelined(async function postLocalSGDHook(state, bucket) {
  if (!(state instanceof PostLocalSGDState)) {
    throw new InvalidArgumentError(
      `postLocalSGDHook: its state is a PostLocalSGDState, as in registerCommHook(new PostLocalSGDState({ … }), postLocalSGDHook); got ${describe(state)}`,
      { argument: "state" },
    );
  }
  if (state.iter < state.startLocalSGDIter) {
    state.maybeIncreaseIter(bucket);
    return await allReduceHook(state.group, bucket);
  }
  if (!state.postLocalGradientAllreduce) return bucket.buffer();
  return await allReduceHook(state.subgroup, bucket);
});
