import { addToError, DistError, DistTimeoutError, InvalidArgumentError, messageOf } from "../errors/index.ts";
import { durationText, withLimit } from "../time/index.ts";
import { type CommHook, type CommHookOptions, isPipelined } from "./comm-hook.ts";
import { type GradBucket, requireBuffer } from "./grad-bucket.ts";
import type { Gradient } from "./parameter.ts";

/** A communication hook with its state. */
export class RegisteredHook {
  readonly name: string;
  readonly pipelined: boolean;
  readonly #hook: (bucket: GradBucket) => unknown;

  constructor(state: unknown, hook: CommHook<never>, options: CommHookOptions) {
    const call = hook as CommHook;
    this.#hook = (bucket) => call(state, bucket);
    this.name = options.name ?? (hook.name || "without a name");
    this.pipelined = options.pipelined ?? isPipelined(hook);
  }

  /**
   * Exchanges a bucket.
   * @throws DistError naming the hook and the bucket's parameters if it fails, takes longer than the time-out of the group,
   *   or gives something that is not the bucket's gradient.
   */
  async call(bucket: GradBucket): Promise<Gradient> {
    const names = bucket.parameters().map(({ name }) => name);
    const at = `bucket ${bucket.index()} (${names.join(", ")})`;
    const { name: group, rank, timeoutMs } = bucket.group;
    let result: unknown;
    try {
      result = await withLimit(this.#hook(bucket), timeoutMs, () => {
        const text = `communication hook ${this.name} has not finished ${at} within ${durationText(timeoutMs)}`;
        return new DistTimeoutError(text, { code: "HOOK_TIMEOUT", group, rank, timeoutMs });
      });
    } catch (error) {
      if (!(error instanceof DistError)) {
        const text = `communication hook ${this.name} failed in ${at}: ${messageOf(error)}`;
        throw new InvalidArgumentError(text, { code: "HOOK_FAILED", group, rank, cause: error });
      }
      if (error.code !== "HOOK_TIMEOUT") addToError(error, `in communication hook ${this.name}, ${at}`);
      throw error;
    }
    const [first] = Array.isArray(result) ? (result as unknown[]) : [result];
    return requireBuffer(first, bucket, `the result of communication hook ${this.name}`);
  }
}
