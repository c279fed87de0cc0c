import { requireOptionNames } from "../collectives/option-names.ts";
import { addToError, DistError, DistTimeoutError, InvalidArgumentError, messageOf } from "../errors/index.ts";
import type { ProcessGroup } from "../process-group/index.ts";
import { durationText, startTimer, type Timer } from "../time/index.ts";
import { type CommHook, type CommHookOptions, isPipelined } from "./comm-hook.ts";
import { type GradBucket, requireBuffer } from "./grad-bucket.ts";
import type { Gradient } from "./parameter.ts";

/** How long a hook that is late has after its ops, which have time-outs and better errors of their own. */
const GRACE_MS = 100;

/** A communication hook with its state. */
export class RegisteredHook {
  readonly name: string;
  readonly pipelined: boolean;
  readonly #hook: (bucket: GradBucket) => unknown;

  constructor(state: unknown, hook: CommHook<never>, options: CommHookOptions) {
    requireOptionNames("registerCommHook()", options, { pipelined: true, name: true });
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
      result = await settledInTime(this.#hook(bucket), bucket.group, () => {
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

/** Settles as `pending`; rejects when the time-out of the group has expired and none of its ops is in flight. */
async function settledInTime(pending: unknown, group: ProcessGroup, expire: () => DistTimeoutError): Promise<unknown> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const check = () => {
    if (group.inFlight > 0) timer = startTimer(GRACE_MS, check);
    else reject(expire());
  };
  let timer: Timer = startTimer(group.timeoutMs, check);
  try {
    return await Promise.race([pending, late]);
  } finally {
    timer[Symbol.dispose]();
  }
}
