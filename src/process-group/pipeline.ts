import { type OpCall, opNames, opTypeOf } from "../collectives/index.ts";
import { DistBackendError, type DistError, describe, messageOf, warn } from "../errors/index.ts";
import {
  type Backend,
  type BackendPlugin,
  type Capabilities,
  CapabilityTable,
  type Clock,
  type GroupContext,
  type Middleware,
  type Submit,
} from "../registry/index.ts";
import type { Device } from "../tensor/index.ts";
import { asError, type GroupState, isWork, Work } from "../work/index.ts";

/** What a pipeline is made of. */
export interface PipelineInit {
  readonly group: string;
  readonly device: Device;
  readonly plugin: BackendPlugin;
  readonly backend: Backend;
  /** What the backends of all ranks can do. */
  readonly capabilities: Capabilities;
  readonly clock: Clock;
}

/** What middleware gets that its group alone can give: see {@link GroupContext}. */
export type MiddlewareSurroundings = Omit<GroupContext, "fail" | "onAbort" | "onClose" | "helperGroup"> & {
  /** Makes a further backend for the same ranks. */
  makeHelper(): Promise<Backend>;
};

/** The way of the calls of one group on one device: middleware, then the backend. */
export class Pipeline {
  readonly device: Device;
  readonly plugin: BackendPlugin;
  readonly backend: Backend;
  readonly capabilities: Capabilities;
  readonly table: CapabilityTable;
  readonly clock: Clock;
  readonly #group: string;
  #submit: Submit;
  /** Names, the innermost first. */
  readonly #middleware: string[] = [];
  #failure: DistError | undefined;
  #isEnding = false;
  readonly #helpers: Backend[] = [];
  readonly #abortListeners: ((reason: string) => void)[] = [];
  readonly #closeListeners: (() => void | Promise<void>)[] = [];

  constructor({ group, device, plugin, backend, capabilities, clock }: PipelineInit) {
    this.device = device;
    this.plugin = plugin;
    this.backend = backend;
    this.capabilities = capabilities;
    this.table = new CapabilityTable(plugin.name, capabilities);
    this.clock = clock;
    this.#group = group;
    this.#submit = (calls) => backend.submit(calls);
  }

  /** Puts middleware around what is there; the first of the list is outermost. */
  async wrap(
    middleware: readonly Middleware[],
    surroundingsOf: (name: string) => MiddlewareSurroundings,
  ): Promise<void> {
    for (const each of [...middleware].reverse()) {
      const { name } = each;
      const layer: unknown = await each.create(this.#contextOf(surroundingsOf(name)));
      if (typeof layer !== "function") {
        throw new DistBackendError(
          `middleware "${name}": create() must give a function from one submit to another, got ${describe(layer)}`,
          { group: this.#group, code: "INVALID_MIDDLEWARE" },
        );
      }
      const submit: unknown = layer(this.#submit);
      if (typeof submit !== "function") {
        throw new DistBackendError(`middleware "${name}" must give a submit function, got ${describe(submit)}`, {
          group: this.#group,
          code: "INVALID_MIDDLEWARE",
        });
      }
      this.#submit = submit as Submit;
      this.#middleware.push(name);
    }
  }

  #contextOf({ makeHelper, ...surroundings }: MiddlewareSurroundings): GroupContext {
    return {
      ...surroundings,
      helperGroup: async () => {
        const backend = await makeHelper();
        this.#helpers.push(backend);
        return backend;
      },
      fail: (error) => this.#fail(error),
      onAbort: (listener) => {
        this.#abortListeners.push(listener);
      },
      onClose: (listener) => {
        this.#closeListeners.push(listener);
      },
    };
  }

  /** Submits calls; whatever goes wrong, there is a Work for each. */
  submit(calls: readonly OpCall[]): readonly Work<void>[] {
    try {
      if (this.#failure !== undefined) throw this.#failedBefore(calls[0], this.#failure);
      const works: readonly unknown[] = this.#submit(calls);
      const isRight = works?.length === calls.length && works.every((work) => isWork(work));
      return isRight ? (works as readonly Work<void>[]) : this.#mended(calls, works);
    } catch (error) {
      return calls.map((call) => Work.rejected(error, { opType: opTypeOf(call) }));
    }
  }

  /** {@link submit} of one call. */
  submitOne(call: OpCall): Work<void> {
    if (this.#failure === undefined) {
      try {
        const calls = [call];
        const works = this.#submit(calls);
        const work = works?.[0];
        if (works?.length === 1 && isWork(work)) return work as Work<void>;
        return this.#mended(calls, works)[0] as Work<void>;
      } catch (error) {
        return Work.rejected(error, { opType: opTypeOf(call) });
      }
    }
    return Work.rejected(this.#failedBefore(call, this.#failure), { opType: opTypeOf(call) });
  }

  /** A backend or a middleware of the user's own may return what is no Work of this copy of the package, or too few. */
  #mended(calls: readonly OpCall[], works: readonly unknown[]): readonly Work<void>[] {
    if (!Array.isArray(works) || works.length !== calls.length) {
      const got = Array.isArray(works) ? `${works.length} for ${calls.length} calls` : describe(works);
      const backend = this.plugin.name;
      const middleware = this.#middleware.map((name) => `, or middleware "${name}"`).join("");
      throw new DistBackendError(
        `backend "${backend}"${middleware}: submit() must return one Work for each call, got ${got}`,
        { backend, group: this.#group, code: "INVALID_SUBMIT" },
      );
    }
    return calls.map((call, i) => {
      const work: unknown = works[i];
      return isWork(work)
        ? (work as Work<void>)
        : Work.fromPromise(Promise.resolve(work) as Promise<void>, { opType: opTypeOf(call) });
    });
  }

  #failedBefore(call: OpCall | undefined, cause: DistError): DistBackendError {
    const op = call === undefined ? "op" : opNames[opTypeOf(call)];
    return new DistBackendError(
      `${op}: group "${this.#group}" has failed before (${cause.message}). It takes no more ops: make a new group with newGroup()`,
      { backend: this.plugin.name, group: this.#group, op, rank: this.backend.rank, code: "GROUP_FAILED", cause },
    );
  }

  get state(): GroupState {
    const { state } = this.backend;
    return state === "OPEN" && this.#failure !== undefined ? "FAILED" : state;
  }

  #fail(reason: unknown): void {
    if (this.#failure !== undefined) return;
    const error = asError(reason, { opType: opTypeOf({ op: "refused", peer: -1 }) });
    this.#failure = error;
    try {
      this.abort(error.message);
    } catch (failure) {
      warn(`group "${this.#group}": abort() of backend "${this.plugin.name}" failed: ${messageOf(failure)}`);
    }
  }

  /** Fails what is in flight, in the middleware too. */
  abort(reason: string): void {
    try {
      this.backend.abort(reason);
    } finally {
      this.endHeld(reason);
    }
  }

  /** Lets the middleware end the Works that it holds, once. */
  endHeld(reason: string): void {
    if (this.#isEnding) return;
    this.#isEnding = true;
    for (const listener of this.#abortListeners) this.#call(() => listener(reason));
    for (const helper of this.#helpers) this.#call(() => helper.abort(reason));
  }

  #call(listener: () => void): void {
    try {
      listener();
    } catch (error) {
      warn(`group "${this.#group}": a middleware failed when the group did: ${messageOf(error)}`);
    }
  }

  /** Closes the backend, and what middleware has. */
  async close(): Promise<void> {
    this.endHeld("the group was closed while the op was in flight");
    const ends = await Promise.allSettled([
      (async () => this.backend.close())(),
      ...this.#closeListeners.map(async (listener) => listener()),
      ...this.#helpers.map(async (helper) => helper.close()),
    ]);
    for (const end of ends) if (end.status === "rejected") throw end.reason;
  }
}
