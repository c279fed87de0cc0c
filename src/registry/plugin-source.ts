import type { BackendPlugin } from "./contracts/backend-plugin.ts";

/** A backend that is loaded on first use. */
export interface LazyBackend {
  /** Name of the plugin that `load` resolves to. */
  readonly name: string;
  /** Called on first use of the backend; a rejection becomes a `BackendUnavailableError`. */
  readonly load: () => Promise<BackendPlugin>;
}

/** Where a registry finds the plugins that were registered, read at each look-up. */
export interface PluginSource {
  /** Later ones replace earlier ones of the same name. */
  list(): readonly (BackendPlugin | LazyBackend)[];
  add(plugin: BackendPlugin): void;
}

/** A source that is a list. */
export class PluginList implements PluginSource {
  readonly #plugins: BackendPlugin[] = [];

  list(): readonly BackendPlugin[] {
    return this.#plugins;
  }

  add(plugin: BackendPlugin): void {
    this.#plugins.push(plugin);
  }
}

export function isLazy(entry: BackendPlugin | LazyBackend): entry is LazyBackend {
  return !("create" in entry) && typeof (entry as Partial<LazyBackend>).load === "function";
}
