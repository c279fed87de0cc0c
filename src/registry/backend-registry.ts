import {
  BackendUnavailableError,
  DistError,
  descriptorShortage,
  InvalidArgumentError,
  messageOf,
  shortageOf,
} from "../errors/index.ts";
import type { Availability, BackendPlugin } from "./backend-plugin.ts";
import { type BackendType, backendTypeOf } from "./backend-type.ts";
import type { BackendDiscovery, DiscoveryFault } from "./discovery.ts";
import { didYouMean } from "./nearest-name.ts";
import { pluginFault } from "./plugin-shape.ts";

/** A backend that is loaded on first use. */
export interface LazyBackend {
  readonly name: string;
  readonly load: () => Promise<BackendPlugin>;
}

/** What `registerBackend()` takes beside the plugin. */
export interface RegisterOptions {
  /** Whether a backend of the same name, a built-in one included, may be replaced. Default is `false`. */
  readonly replace?: boolean;
}

interface Entry extends LazyBackend {
  /** Where it comes from; `undefined` for what was registered in code. */
  readonly origin: string | undefined;
  plugin: BackendPlugin | undefined;
}

const BUILT_IN = "built in";

/** Backends by name, and by c10d's `BackendType`. One instance per container. */
export class BackendRegistry {
  readonly #entries = new Map<string, Entry>();
  readonly #discovery: BackendDiscovery | undefined;
  #namedModules: Promise<void> | undefined;
  #faults: readonly DiscoveryFault[] | undefined;

  /** @param discovery Where to look for backends that are not registered; nowhere by default. */
  constructor(builtIn: readonly LazyBackend[] = [], discovery?: BackendDiscovery) {
    for (const { name, load } of builtIn) {
      this.#entries.set(name, { name, origin: BUILT_IN, plugin: undefined, load });
    }
    this.#discovery = discovery;
  }

  /**
   * Adds a backend.
   * @throws InvalidArgumentError for something that is no plugin, for one that was written for another SDK
   *   (`SDK_MISMATCH`), and for a name that is taken unless `replace` is set (`BACKEND_EXISTS`).
   *
   * c10d: `Backend.register_backend`.
   */
  register(plugin: BackendPlugin, options: RegisterOptions = {}): void {
    const fault = pluginFault(plugin);
    if (fault !== undefined) {
      throw new InvalidArgumentError(`registerBackend: ${fault.message}`, {
        ...(fault.field === "sdk" && { code: "SDK_MISMATCH" }),
        argument: fault.field,
        ...(typeof plugin?.name === "string" && { backend: plugin.name }),
      });
    }
    const { name } = plugin;
    const known = this.#entries.get(name);
    if (known && !options.replace) {
      throw new InvalidArgumentError(
        `registerBackend: backend "${name}" ${standing(known)}; pass { replace: true } to replace it`,
        { code: "BACKEND_EXISTS", backend: name },
      );
    }
    this.#add(plugin, undefined);
  }

  #add(plugin: BackendPlugin, origin: string | undefined): void {
    this.#entries.set(plugin.name, { name: plugin.name, origin, plugin, load: () => Promise.resolve(plugin) });
  }

  /** Names of all backends that are known so far, built-in ones first. */
  names(): string[] {
    return [...this.#entries.keys()];
  }

  /** Whether a backend is known so far; one that is only to be discovered is not. */
  has(name: string): boolean {
    return this.#entries.has(name.toLowerCase());
  }

  /** Whether the plugin of a known backend is loaded already; else {@link get} and {@link probe} run code of its package. */
  isLoaded(name: string): boolean {
    return this.#entries.get(name.toLowerCase())?.plugin !== undefined;
  }

  /** Where a known backend comes from: `built in`, `registered`, or what named it. */
  originOf(name: string): string {
    const entry = this.#entries.get(name.toLowerCase());
    return entry?.origin ?? "registered";
  }

  /** Type of a backend by its name; names that c10d does not know are CUSTOM. */
  typeOf(name: string): BackendType {
    return backendTypeOf(name);
  }

  /**
   * Makes every backend known that can be discovered, and resolves to what cannot be used; from then on that stops nobody
   * from using the others. Never throws.
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
   * The plugin of this name, loading it if need be. It may not be able to run here: see {@link probe}.
   * @throws BackendUnavailableError for an unknown name, listing the known ones, and for what cannot be loaded.
   */
  async get(name: string): Promise<BackendPlugin> {
    await this.#loadNamedModules();
    const key = name.toLowerCase();
    let entry = this.#entries.get(key);
    if (entry === undefined) {
      const faults = this.#addDeclared();
      entry = this.#entries.get(key);
      if (entry === undefined) throw this.#unknown(name, faults);
    }
    try {
      entry.plugin ??= await entry.load();
    } catch (cause) {
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

  /** Loads what `C10D_BACKENDS` names, once; what failed is tried again next time. */
  async #loadNamedModules(): Promise<void> {
    const modules = this.#namedModules === undefined ? (this.#discovery?.namedModules() ?? []) : [];
    this.#namedModules ??= this.#addNamed(modules);
    try {
      await this.#namedModules;
    } catch (error) {
      this.#namedModules = undefined;
      throw error;
    }
  }

  async #addNamed(modules: ReturnType<BackendDiscovery["namedModules"]>): Promise<void> {
    for (const { origin, load } of modules) {
      for (const plugin of await load()) {
        const known = this.#entries.get(plugin.name);
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

  /** Makes the backends known that packages declare, without loading any. */
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
      const known = this.#entries.get(name);
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

  /** Whether a backend can run here, and if not why, and what to do. Does not throw for known names. */
  async probe(name: string): Promise<Availability> {
    const plugin = await this.get(name);
    const remedy = `look at the probe() of backend "${name}"`;
    try {
      const answer: unknown = await plugin.probe();
      if (!isAvailability(answer)) {
        return { available: false, reason: "probe() of the plugin does not say whether it can run", remedy };
      }
      if (answer.available) return answer;
      // Whoever shows the reason names the backend, as errors of loading its library do.
      const named = `backend "${plugin.name}": `;
      return { ...answer, reason: answer.reason.startsWith(named) ? answer.reason.slice(named.length) : answer.reason };
    } catch (error) {
      return { available: false, reason: messageOf(error), remedy };
    }
  }

  /**
   * The plugin of this name, if it can run here.
   * @throws BackendUnavailableError with the reason and the remedy.
   */
  async require(name: string): Promise<BackendPlugin> {
    const plugin = await this.get(name);
    const availability = await this.probe(plugin.name);
    if (availability.available) return plugin;
    throw new BackendUnavailableError(
      `backend "${name}" cannot run here: ${availability.reason}\n${availability.remedy}`,
      { backend: name },
    );
  }
}

function standing({ origin }: Entry): string {
  if (origin === BUILT_IN) return "is built in";
  return origin === undefined ? "is registered already" : `is there already, from ${origin}`;
}

/** The same plugin may come twice: registered in code, and named in the environment of the ranks. */
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
