import {
  DistBackendError,
  type DistError,
  describe,
  InvalidArgumentError,
  messageOf,
  warn,
} from "../../errors/index.ts";
import type { Logger } from "../../registry/index.ts";
import { failureOf, hasEnded, type Work, type WorkInfo } from "../../work/index.ts";
import { HookCalls } from "./hook-calls.ts";
import { type OpChannels, type OpMessage, opChannels } from "./op-channels.ts";
import type { CompletionHook, OpHooks, PreHookEvent } from "./op-hooks.ts";

/** The group whose hooks these are. */
export interface HookedGroup {
  readonly name: string;
  readonly rank: number;
  readonly globalRanks: readonly number[];
}

/** What is known of an op before it is submitted. */
export type StartedOp = Omit<PreHookEvent, "group" | "rank" | "globalRanks">;

const names = ["pre", "post", "abort"] as const;

/** Hooks as they were registered. */
interface OwnHooks extends OpHooks {
  /** Also while an op is under way whose other hooks have been called. */
  isDisposed: boolean;
}

/** The hooks of one group. While there are none, and nobody listens to the channels, an op costs one comparison. */
export class GroupHooks {
  readonly #group: HookedGroup;
  readonly #logger: Logger | undefined;
  readonly #channels: OpChannels = opChannels();
  #hooks: readonly OwnHooks[] = [];
  #completion: CompletionHook | undefined;
  /** Ops in flight whose end is to be reported. */
  readonly #pending = new Map<Work<unknown>, OpMessage>();
  readonly #calls = new HookCalls((kind, error) => this.#failed(kind, error));
  #isCalling = false;
  #hasAborted = false;

  constructor(group: HookedGroup, logger?: Logger) {
    this.#group = group;
    this.#logger = logger;
  }

  /** Whether ops that start now have to be reported. */
  get isActive(): boolean {
    if (this.#isCalling) return false;
    return this.#hooks.length > 0 || this.#completion !== undefined || this.#isTraced;
  }

  get #isTraced(): boolean {
    const { start, end, asyncStart, asyncEnd, error } = this.#channels.op;
    return (
      start.hasSubscribers ||
      end.hasSubscribers ||
      asyncStart.hasSubscribers ||
      asyncEnd.hasSubscribers ||
      error.hasSubscribers
    );
  }

  /** Whether there is a hook of any kind. */
  get hasHooks(): boolean {
    return this.#hooks.length > 0 || this.#completion !== undefined;
  }

  /** @throws InvalidArgumentError unless it has a hook and nothing but hooks. */
  register(hooks: OpHooks): Disposable {
    requireHooks(hooks);
    // A copy is unaffected by later changes, and the same hooks may be registered twice.
    const own: OwnHooks = { ...hooks, isDisposed: false };
    this.#hooks = [...this.#hooks, own];
    return {
      [Symbol.dispose]: () => {
        own.isDisposed = true;
        this.#hooks = this.#hooks.filter((each) => each !== own);
      },
    };
  }

  /** @throws DistBackendError (`HOOK_REGISTERED`) when there is one. */
  registerCompletion(hook: CompletionHook): Disposable {
    if (typeof hook !== "function") {
      throw new InvalidArgumentError(`registerOnCompletionHook: hook must be a function, got ${describe(hook)}`, {
        argument: "hook",
      });
    }
    if (this.#completion !== undefined) {
      const { name: group, rank } = this.#group;
      const text = `registerOnCompletionHook: an OnCompletion hook is already registered on group "${group}"; dispose of it first`;
      throw new DistBackendError(text, { group, rank, code: "HOOK_REGISTERED" });
    }
    this.#completion = hook;
    return {
      [Symbol.dispose]: () => {
        if (this.#completion === hook) this.#completion = undefined;
      },
    };
  }

  /** Reports an op that is about to be submitted. Returns what {@link submitted} needs. */
  before(op: StartedOp): OpMessage {
    const { name: group, rank } = this.#group;
    // Copies: a hook that changed the lists, or a view, would change the op.
    const seen = () => ({
      ...op,
      inputs: op.inputs.map((view) => ({ ...view })),
      outputs: op.outputs.map((view) => ({ ...view })),
      ...{ group, rank, globalRanks: [...this.#group.globalRanks] },
    });
    const message: OpMessage = seen();
    this.#publish(() => this.#channels.op.start.publish(message));
    for (const hooks of this.#hooks) {
      const { pre } = hooks;
      if (pre !== undefined && !hooks.isDisposed) this.#call("pre", () => pre(seen()));
    }
    return message;
  }

  /** Reports that an op has been submitted, and its end when that comes. */
  submitted(message: OpMessage, work: Work<unknown>): void {
    message.work = work;
    this.#publish(() => this.#channels.op.end.publish(message));
    const { opId, op, opType, group } = message;
    for (const hooks of this.#hooks) {
      const { post } = hooks;
      if (post !== undefined && !hooks.isDisposed) this.#call("post", () => post({ opId, op, opType, group, work }));
    }
    if (hasEnded(work)) this.#report(message, work);
    else this.#pending.set(work, message);
  }

  /** Called for each op of the group that has ended. */
  ended(work: Work<unknown>): void {
    if (this.#pending.size === 0) return;
    const message = this.#pending.get(work);
    if (message === undefined) return;
    this.#pending.delete(work);
    this.#report(message, work);
  }

  #report(message: OpMessage, work: Work<unknown>): void {
    const error = failureOf(work);
    const { opId, op, group } = message;
    const completion = this.#completion;
    const { error: failed, asyncStart, asyncEnd } = this.#channels.op;
    if (completion === undefined && !(failed.hasSubscribers || asyncStart.hasSubscribers || asyncEnd.hasSubscribers)) {
      return;
    }
    const info = this.#infoOf(work);
    if (info !== undefined) {
      message.info = info;
      if (completion !== undefined) this.#call("completion", () => completion(info, { opId, op, group, error }));
    }
    if (error !== undefined) {
      message.error = error;
      this.#publish(() => failed.publish(message));
    }
    this.#publish(() => asyncStart.publish(message));
    this.#publish(() => asyncEnd.publish(message));
  }

  /** The class of a user's Work may implement it. */
  #infoOf(work: Work<unknown>): WorkInfo | undefined {
    try {
      return work.info();
    } catch (error) {
      this.#log(`info() of a Work of group "${this.#group.name}" has failed: ${messageOf(error)}`);
      return undefined;
    }
  }

  /** Reports that the group has failed or is being aborted, once. */
  aborting(reason: string, error: DistError | undefined): void {
    if (this.#hasAborted) return;
    this.#hasAborted = true;
    const { name: group, rank } = this.#group;
    const event = { group, rank, reason, error };
    this.#publish(() => this.#channels.abort.publish(event));
    for (const hooks of this.#hooks) {
      const { abort } = hooks;
      if (abort !== undefined && !hooks.isDisposed) this.#call("abort", () => abort(event));
    }
  }

  /** Resolves when no hook is running, except that from which this is called. */
  idle(): Promise<void> {
    return this.#calls.idle();
  }

  /** Subscribers that throw become uncaught exceptions, by `node:diagnostics_channel` itself. */
  #publish(publish: () => void): void {
    const isOuter = !this.#isCalling;
    this.#isCalling = true;
    try {
      publish();
    } finally {
      if (isOuter) this.#isCalling = false;
    }
  }

  #call(kind: string, hook: () => unknown): void {
    const isOuter = !this.#isCalling;
    this.#isCalling = true;
    try {
      this.#calls.call(kind, hook);
    } finally {
      if (isOuter) this.#isCalling = false;
    }
  }

  #failed(kind: string, error: unknown): void {
    const { name, rank } = this.#group;
    this.#log(`the ${kind} hook of group "${name}" (rank ${rank}) has failed: ${messageOf(error)}`);
  }

  #log(text: string): void {
    if (this.#logger === undefined) warn(text, "HOOK_FAILED");
    else this.#logger.error(text);
  }
}

function requireHooks(hooks: OpHooks): void {
  if (typeof hooks !== "object" || hooks === null) {
    const text = `registerHook: hooks must be an object with ${names.join(", ")}, got ${describe(hooks)}`;
    throw new InvalidArgumentError(text, { argument: "hooks" });
  }
  const given = Object.entries(hooks).filter(([, hook]) => hook !== undefined);
  for (const [name, hook] of given) {
    if (!names.some((each) => each === name)) {
      throw new InvalidArgumentError(`registerHook: unknown hook ${name} (known are ${names.join(", ")})`, {
        argument: name,
      });
    }
    if (typeof hook !== "function") {
      throw new InvalidArgumentError(`registerHook: ${name} must be a function, got ${describe(hook)}`, {
        argument: name,
      });
    }
  }
  if (given.length === 0) {
    throw new InvalidArgumentError(`registerHook: at least one of ${names.join(", ")} must be given`, {
      argument: "hooks",
    });
  }
}
