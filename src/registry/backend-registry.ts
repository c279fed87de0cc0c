import { BackendUnavailableError, InvalidArgumentError } from "../errors/index.ts";
import type { Availability, BackendPlugin } from "./backend-plugin.ts";
import { type BackendType, backendTypeOf } from "./backend-type.ts";

/** A backend that is loaded on first use. */
export interface LazyBackend {
  readonly name: string;
  readonly load: () => Promise<BackendPlugin>;
}

export interface RegisterOptions {
  /** Whether a backend of the same name, a built-in one included, may be replaced. Default is `false`. */
  readonly replace?: boolean;
}

interface Entry {
  readonly name: string;
  readonly builtIn: boolean;
  plugin: BackendPlugin | undefined;
  readonly load: () => Promise<BackendPlugin>;
}

/** Backends by name, and by c10d's `BackendType`. One instance per container. */
export class BackendRegistry {
  readonly #entries = new Map<string, Entry>();

  constructor(builtIn: readonly LazyBackend[] = []) {
    for (const { name, load } of builtIn) this.#entries.set(name, { name, builtIn: true, plugin: undefined, load });
  }

  /**
   * Adds a backend.
   * @throws InvalidArgumentError for a bad name, and for one that is taken unless `replace` is set.
   *
   * c10d: `Backend.register_backend`.
   */
  register(plugin: BackendPlugin, options: RegisterOptions = {}): void {
    const { name } = plugin;
    if (typeof name !== "string" || !/^[a-z][a-z0-9_-]*$/.test(name)) {
      throw new InvalidArgumentError(
        `registerBackend: a backend's name is lower-case letters, digits, "-" and "_", got ${JSON.stringify(name)}`,
        { argument: "name" },
      );
    }
    if (plugin.type !== backendTypeOf(name)) {
      throw new InvalidArgumentError(
        `registerBackend: backend "${name}" must have type ${backendTypeOf(name)} (BackendType.CUSTOM unless the name is c10d's), got ${plugin.type}`,
        { argument: "type", backend: name },
      );
    }
    if (plugin.devices.length === 0) {
      throw new InvalidArgumentError(`registerBackend: backend "${name}" takes no kind of device`, { backend: name });
    }
    const known = this.#entries.get(name);
    if (known && !options.replace) {
      const what = known.builtIn ? "is built in" : "is registered already";
      throw new InvalidArgumentError(
        `registerBackend: backend "${name}" ${what}; pass { replace: true } to replace it`,
        { code: "BACKEND_EXISTS", backend: name },
      );
    }
    this.#entries.set(name, {
      name,
      builtIn: false,
      plugin,
      load: () => Promise.resolve(plugin),
    });
  }

  /** Names of all backends, built-in ones first. */
  names(): string[] {
    return [...this.#entries.keys()];
  }

  has(name: string): boolean {
    return this.#entries.has(name.toLowerCase());
  }

  /** Type of a backend by its name; names that c10d does not know are CUSTOM. */
  typeOf(name: string): BackendType {
    return backendTypeOf(name);
  }

  /**
   * The plugin of this name, loading it if need be. It may not be able to run here: see {@link probe}.
   * @throws BackendUnavailableError for an unknown name, listing the known ones.
   */
  async get(name: string): Promise<BackendPlugin> {
    const entry = this.#entries.get(name.toLowerCase());
    if (!entry) {
      throw new BackendUnavailableError(
        `unknown backend "${name}": known are ${this.names().join(", ")}. Add your own with registerBackend(plugin).`,
        { code: "UNKNOWN_BACKEND", backend: name },
      );
    }
    try {
      entry.plugin ??= await entry.load();
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new BackendUnavailableError(`backend "${name}" cannot be loaded: ${reason}`, { backend: name, cause });
    }
    return entry.plugin;
  }

  /** Whether a backend can run here, and if not why, and what to do. Does not throw for known names. */
  async probe(name: string): Promise<Availability> {
    const plugin = await this.get(name);
    try {
      return await plugin.probe();
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      return { available: false, reason, remedy: `look at the probe() of backend "${name}"` };
    }
  }

  /**
   * The plugin of this name, if it can run here.
   * @throws BackendUnavailableError with the reason and the remedy.
   */
  async require(name: string): Promise<BackendPlugin> {
    const plugin = await this.get(name);
    const availability = await this.probe(name);
    if (availability.available) return plugin;
    throw new BackendUnavailableError(
      `backend "${name}" cannot run here: ${availability.reason}\n${availability.remedy}`,
      { backend: name },
    );
  }
}
