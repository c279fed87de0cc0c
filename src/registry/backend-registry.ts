import {
  BackendUnavailableError,
  DistError,
  describe,
  descriptorShortage,
  InvalidArgumentError,
  messageOf,
  shortageOf,
} from "../errors/index.ts";
import { didYouMean } from "../errors/nearest-name.ts";
import type { Availability, BackendPlugin } from "./contracts/backend-plugin.ts";
import { BackendType, backendNameOf, backendTypeOf } from "./contracts/backend-type.ts";
import type { BackendDiscovery, DiscoveryFault } from "./discovery.ts";
import { pluginFault } from "./plugin-shape.ts";
import { isLazy, type LazyBackend, PluginList, type PluginSource } from "./plugin-source.ts";
import { systemClock } from "./services/clock.ts";
import { isOverdue, type SettleLimit, settledWithin } from "./services/settled-within.ts";

/** Options of `registerBackend()`. */
export interface RegisterOptions {
  /** Whether a backend of the same name, a built-in one included, may be replaced. Default is `false`. */
  readonly replace?: boolean;
}

interface Entry extends LazyBackend {
  /** Where it comes from; `undefined` if it was registered in code. */
  readonly origin: string | undefined;
  plugin: BackendPlugin | undefined;
}

const BUILT_IN = "built in";

/** How long a plugin may take to load and to answer `probe()`, by default. */
const DEFAULT_LIMIT: SettleLimit = { limitMs: 30_000, clock: systemClock };

/**
 * Backends by name, and by c10d's `BackendType`: the built-in ones, those registered in its container and the parents
 * of that, and those that can be discovered. One instance per container.
 */
export class BackendRegistry {
  /** Built-in and discovered backends. */
  readonly #entries = new Map<string, Entry>();
  readonly #discovery: BackendDiscovery | undefined;
  readonly #source: PluginSource;
  /** Entries of the plugins of the source. */
  readonly #registered = new WeakMap<object, Entry>();
  #namedModules: Promise<void> | undefined;
  #faults: readonly DiscoveryFault[] | undefined;

  /**
   * @param discovery Where to look for backends that are not registered; nowhere by default.
   * @param source Holds the registered ones; its own list by default.
   */
  constructor(
    builtIn: readonly LazyBackend[] = [],
    discovery?: BackendDiscovery,
    source: PluginSource = new PluginList(),
  ) {
    for (const { name, load } of builtIn) {
      this.#entries.set(name, { name, origin: BUILT_IN, plugin: undefined, load });
    }
    this.#discovery = discovery;
    this.#source = source;
  }

  /**
   * Adds a backend.
   * @throws InvalidArgumentError for anything that is not a plugin, for one that was written for another SDK
   *   (`SDK_MISMATCH`), and for a name that is taken unless `replace` is set (`BACKEND_EXISTS`).
   *
   * c10d: `Backend.register_backend`.
   */
  register(plugin: BackendPlugin, options: RegisterOptions = {}): void {
    requirePlugin("registerBackend", plugin);
    const { name } = plugin;
    const known = this.#find(name);
    if (known && !options.replace) {
      throw new InvalidArgumentError(
        `registerBackend: backend "${name}" ${standing(known)}; pass { replace: true } to replace it`,
        { code: "BACKEND_EXISTS", backend: name },
      );
    }
    this.#source.add(plugin);
  }

  #find(name: string): Entry | undefined {
    const key = name.toLowerCase();
    const registered = this.#source.list().findLast((each) => each.name === key);
    return registered === undefined ? this.#entries.get(key) : this.#entryOf(registered);
  }

  #entryOf(registered: BackendPlugin | LazyBackend): Entry {
    const known = this.#registered.get(registered);
    if (known !== undefined) return known;
    const { name } = registered;
    const entry: Entry = isLazy(registered)
      ? {
          name,
          origin: undefined,
          plugin: undefined,
          load: async () => requireNamed(name, await registered.load()),
        }
      : { name, origin: undefined, plugin: undefined, load: async () => requirePlugin("BACKEND_PLUGIN", registered) };
    if (!isLazy(registered) && pluginFault(registered) === undefined) entry.plugin = registered;
    this.#registered.set(registered, entry);
    return entry;
  }

  /** Names of all backends known so far, built-in ones first. */
  names(): string[] {
    return [...new Set([...this.#entries.keys(), ...this.#source.list().map(({ name }) => name)])];
  }

  /** Whether a backend is known so far; one that is yet to be discovered is not. */
  has(name: string): boolean {
    return this.#find(name) !== undefined;
  }

  /** Whether the plugin of a known backend is loaded; if not, {@link get} and {@link probe} run code of its package. */
  isLoaded(name: string): boolean {
    return this.#find(name)?.plugin !== undefined;
  }

  /** Where a known backend comes from: `built in`, `registered`, or what named it. */
  originOf(name: string): string {
    const entry = this.#find(name);
    return entry?.origin ?? "registered";
  }

  /** Type of a backend by its name; names that c10d does not know are CUSTOM. */
  typeOf(name: string): BackendType {
    return backendTypeOf(name);
  }

  /**
   * Discovers all backends, and resolves to those that cannot be used; from then on, these do not prevent the use of
   * the others. Never throws.
   */
  async discover(): Promise<readonly DiscoveryFault[]> {
    const faults: DiscoveryFault[] = [];
    for (const module of this.#discovery?.namedModules() ?? []) {
      await this.#addNamed([module]).catch((error: unknown) => {
        const text = messageOf(error);
        faults.push({ origin: module.origin, message: text.replace(`${module.origin}: `, "") });
      });
    }
    this.#namedModules = Promise.resolve();
    return [...faults, ...this.#addDeclared()];
  }

  /**
   * The plugin of this name or c10d type; loads it if necessary. It may not be able to run here: see {@link probe}.
   * @throws BackendUnavailableError for an unknown name, listing the known ones, and for one that cannot be loaded;
   *   InvalidArgumentError for a type that does not identify a backend.
   */
  async get(backend: string | BackendType, limit: SettleLimit = DEFAULT_LIMIT): Promise<BackendPlugin> {
    const name = nameOf(backend);
    await this.#loadNamedModules(limit);
    let entry = this.#find(name);
    if (entry === undefined) {
      const faults = this.#addDeclared();
      entry = this.#find(name);
      if (entry === undefined) throw this.#unknown(name, faults);
    }
    try {
      const { load } = entry;
      entry.plugin ??= await settledWithin(`the module of backend "${name}"`, load, limit);
    } catch (cause) {
      if (isOverdue(cause)) throw cause;
      const shortage = cause instanceof DistError ? undefined : (shortageOf(cause) ?? descriptorShortage());
      const reason = shortage?.text ?? messageOf(cause);
      const code = shortage ?? (cause instanceof DistError ? cause : undefined);
      throw new BackendUnavailableError(`backend "${name}" cannot be loaded: ${reason}`, {
        ...(code && { code: code.code }),
        backend: name,
        cause,
      });
    }
    return entry.plugin;
  }

  #unknown(name: string, faults: readonly DiscoveryFault[]): BackendUnavailableError {
    const known = this.names();
    const unusable = faults.map(({ origin, message }) => `\n${origin}: ${message}`).join("");
    return new BackendUnavailableError(
      `unknown backend "${name}"${name === "nccl" ? ", which this version does not have yet" : ""}: known are ${known.join(", ")}${didYouMean(name, known) || "."} ` +
        `Add your own with registerBackend(plugin), or name its module in C10D_BACKENDS.${unusable}`,
      { code: "UNKNOWN_BACKEND", backend: name },
    );
  }

  /** Loads the modules that `C10D_BACKENDS` names, once; after a failure, again next time. */
  async #loadNamedModules(limit: SettleLimit): Promise<void> {
    const modules = this.#namedModules === undefined ? (this.#discovery?.namedModules() ?? []) : [];
    const loading = this.#namedModules ?? this.#addNamed(modules);
    this.#namedModules = loading;
    try {
      await settledWithin("a module that C10D_BACKENDS names", () => loading, limit);
    } catch (error) {
      this.#namedModules = undefined;
      throw error;
    }
  }

  #add(plugin: BackendPlugin, origin: string): void {
    this.#entries.set(plugin.name, { name: plugin.name, origin, plugin, load: () => Promise.resolve(plugin) });
  }

  async #addNamed(modules: ReturnType<BackendDiscovery["namedModules"]>): Promise<void> {
    for (const { origin, load } of modules) {
      for (const plugin of await load()) {
        const known = this.#find(plugin.name);
        if (known === undefined) this.#add(plugin, origin);
        else if (!isSame(known.plugin, plugin)) {
          throw new BackendUnavailableError(
            `${origin}: backend "${plugin.name}" ${standing(known)}; to replace it, say so in code: registerBackend(plugin, { replace: true })`,
            { code: "BACKEND_EXISTS", backend: plugin.name },
          );
        }
      }
    }
  }

  /** Adds the backends that packages declare, without loading any. */
  #addDeclared(): readonly DiscoveryFault[] {
    if (this.#faults !== undefined || this.#discovery === undefined) return this.#faults ?? [];
    const { backends, faults } = this.#discovery.declarations();
    const found = [...faults];
    const declared = new Map<string, string>();
    for (const { name, origin, load } of backends) {
      const rival = declared.get(name);
      if (rival !== undefined) {
        const message = `backend "${name}" is declared by ${rival} too; register the one you mean in code`;
        found.push({ origin, message });
        const ambiguous = () => Promise.reject(new InvalidArgumentError(`${origin}: ${message}`));
        this.#entries.set(name, { name, origin, plugin: undefined, load: ambiguous });
        continue;
      }
      const known = this.#find(name);
      if (known === undefined) {
        declared.set(name, origin);
        this.#entries.set(name, { name, origin, plugin: undefined, load });
      } else if (known.origin === BUILT_IN) {
        const remedy = "to replace it, say so in code: registerBackend(plugin, { replace: true })";
        found.push({ origin, message: `backend "${name}" is built in; ${remedy}` });
      }
    }
    this.#faults = found;
    return found;
  }

  /**
   * Whether a backend can run here, and if not, why and what to do. Does not throw for known names.
   * @param limit How long the plugin may take to answer; half a minute by default.
   */
  async probe(
    name: string | BackendType,
    limit: SettleLimit = DEFAULT_LIMIT,
    options?: unknown,
  ): Promise<Availability> {
    const plugin = await this.get(name, limit);
    try {
      return await this.#ask(plugin, limit, options);
    } catch {
      const reason = `probe() of the plugin had no answer within ${limit.limitMs} ms`;
      return { available: false, reason, remedy: remedyOf(plugin) };
    }
  }

  /** @throws DistTimeoutError (`CONNECT_TIMEOUT`) when the plugin does not answer; nothing else. */
  async #ask(plugin: BackendPlugin, limit: SettleLimit, options: unknown): Promise<Availability> {
    const remedy = remedyOf(plugin);
    try {
      const own = { ...limit, details: { ...limit.details, backend: plugin.name } };
      const answer: unknown = await settledWithin(
        `probe() of backend "${plugin.name}"`,
        () => plugin.probe(options),
        own,
      );
      if (!isAvailability(answer)) {
        return { available: false, reason: "probe() of the plugin does not say whether it can run", remedy };
      }
      if (answer.available) return answer;
      // What shows the reason also names the backend, as do the errors of loading its library.
      const named = `backend "${plugin.name}": `;
      return { ...answer, reason: answer.reason.startsWith(named) ? answer.reason.slice(named.length) : answer.reason };
    } catch (error) {
      if (isOverdue(error)) throw error;
      return { available: false, reason: messageOf(error), remedy };
    }
  }

  /**
   * The plugin of this name, if it can run here.
   * @param options What the user passed as its options, for its `probe()`.
   * @throws BackendUnavailableError with the reason and the remedy, DistTimeoutError (`CONNECT_TIMEOUT`) when it does
   *   not answer within the limit.
   */
  async require(
    name: string | BackendType,
    limit: SettleLimit = DEFAULT_LIMIT,
    options?: unknown,
  ): Promise<BackendPlugin> {
    const plugin = await this.get(name, limit);
    const availability = await this.#ask(plugin, limit, options);
    if (availability.available) return plugin;
    throw new BackendUnavailableError(
      `backend "${plugin.name}" cannot run here: ${availability.reason}\n${availability.remedy}`,
      { backend: plugin.name },
    );
  }
}

const remedyOf = ({ name }: BackendPlugin): string => `look at the probe() of backend "${name}"`;

/** @throws InvalidArgumentError for anything that is not a plugin. */
function requirePlugin(caller: string, plugin: BackendPlugin): BackendPlugin {
  const fault = pluginFault(plugin);
  if (fault === undefined) return plugin;
  throw new InvalidArgumentError(`${caller}: ${fault.message}`, {
    ...(fault.field === "sdk" && { code: "SDK_MISMATCH" }),
    argument: fault.field,
    ...(typeof plugin?.name === "string" && { backend: plugin.name }),
  });
}

/** @throws InvalidArgumentError unless `load()` of a {@link LazyBackend} resolved to the plugin of that name. */
function requireNamed(name: string, loaded: BackendPlugin): BackendPlugin {
  const module = loaded as { readonly default?: unknown } | undefined;
  if (module?.default !== undefined && loaded.name === undefined) {
    throw new InvalidArgumentError(
      "load() resolves to a module: give its plugin, as in async () => (await import(…)).default",
      { code: "BACKEND_LOAD_FAILED", argument: "load", backend: name },
    );
  }
  const plugin = requirePlugin("load()", loaded);
  if (plugin.name === name) return plugin;
  throw new InvalidArgumentError(`load() resolves to a plugin of another name, "${plugin.name}"`, {
    code: "BACKEND_LOAD_FAILED",
    argument: "load",
    backend: name,
  });
}

/** The name of a backend given by its name or type. */
function nameOf(backend: string | BackendType): string {
  const name = typeof backend === "string" ? backend : backendNameOf(backend);
  if (typeof name === "string") return name;
  const given =
    typeof backend === "number" && backend in BackendType ? `BackendType.${BackendType[backend]}` : describe(backend);
  throw new InvalidArgumentError(`${given} does not identify a backend: give a name such as "gloo"`, {
    argument: "backend",
  });
}

function standing({ origin }: Entry): string {
  if (origin === BUILT_IN) return "is built in";
  return origin === undefined ? "is already registered" : `is already known, from ${origin}`;
}

/** The same plugin may occur twice: registered in code, and named in the environment of the ranks. */
function isSame(a: BackendPlugin | undefined, b: BackendPlugin): boolean {
  return a === b || (a?.module !== undefined && a.module === b.module);
}

/** A plugin may be plain JavaScript. */
function isAvailability(answer: unknown): answer is Availability {
  const { available, version, reason, remedy } = (answer ?? {}) as Readonly<Record<string, unknown>>;
  return available === true
    ? typeof version === "string"
    : available === false && typeof reason === "string" && typeof remedy === "string";
}
