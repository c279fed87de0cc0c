import type { AsyncLocalStorage } from "node:async_hooks";
import { watchReturned } from "../../errors/index.ts";
import { isWork } from "../../work/index.ts";

/** A call of a hook that has not ended. */
interface HookCall {
  /** How often it waits for other hooks at present. */
  waits: number;
}

/** Which call of a hook code runs in, also after an `await`. Made for the first hook: loading its module takes a millisecond. */
let scope: AsyncLocalStorage<HookCall> | undefined;
/** Resolve when a hook begins to wait for others. */
const onWait: (() => void)[] = [];

/** Calls the hooks of a group, and knows which have not ended. */
export class HookCalls {
  /** Those that returned a promise, which resolves when it has settled. */
  readonly #running = new Map<HookCall, Promise<void>>();
  readonly #failed: (kind: string, error: unknown) => void;

  /** @param failed Gets what hooks throw, or reject with. */
  constructor(failed: (kind: string, error: unknown) => void) {
    this.#failed = failed;
  }

  /** Calls a hook of this kind. */
  call(kind: string, hook: () => unknown): void {
    const call: HookCall = { waits: 0 };
    try {
      scope ??= newScope();
      const returned = scope.run(call, hook);
      // The failure of a Work is reported by itself; watching would count as observing it.
      if (isWork(returned)) return;
      const settled = watchReturned(returned, (error) => this.#failed(kind, error));
      if (settled === undefined) return;
      this.#running.set(call, settled);
      void settled.finally(() => this.#running.delete(call));
    } catch (error) {
      this.#failed(kind, error);
    }
  }

  /**
   * Resolves when no hook is running. Called in a hook, it does not wait for that one, nor for hooks that wait in the
   * same way: they would wait for each other.
   */
  async idle(): Promise<void> {
    const own = scope?.getStore();
    if (own !== undefined) {
      own.waits++;
      for (const resolve of onWait.splice(0)) resolve();
    }
    try {
      for (;;) {
        const awaited = [...this.#running].filter(([call]) => own === undefined || call.waits === 0);
        if (awaited.length === 0) return;
        const ends = [Promise.allSettled(awaited.map(([, settled]) => settled))];
        await (own === undefined ? ends[0] : Promise.race([...ends, new Promise<void>((r) => onWait.push(r))]));
      }
    } finally {
      if (own !== undefined) own.waits--;
    }
  }
}

function newScope(): AsyncLocalStorage<HookCall> {
  const { AsyncLocalStorage: Scope } = process.getBuiltinModule("node:async_hooks");
  return new Scope<HookCall>();
}
