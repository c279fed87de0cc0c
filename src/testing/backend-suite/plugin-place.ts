import { InvalidArgumentError } from "../../errors/index.ts";
import { type BackendPlugin, registerBackend } from "../../registry/index.ts";

/** Where a rank in another process, or in a Worker, finds the plugin. */
export interface PluginPlace {
  /** Name of the plugin. */
  readonly backend: string;
  /** URL of the file whose default export is the plugin, or a list with it. */
  readonly module: string;
}

/** Where ranks find a plugin. @throws InvalidArgumentError for a plugin without a module. */
export function placeOfPlugin({ name, module }: BackendPlugin): PluginPlace {
  if (module !== undefined) return { backend: name, module };
  throw new InvalidArgumentError(
    `testBackend: ranks in other processes or Workers cannot load backend "${name}": add \`module: import.meta.url\` to the ` +
      "plugin, in the file whose default export it is",
    { argument: "module", backend: name },
  );
}

/** Loads the plugin and registers it. */
export async function loadPlugin({ backend, module }: PluginPlace): Promise<BackendPlugin> {
  const { default: exported } = (await import(module)) as { default?: BackendPlugin | readonly BackendPlugin[] };
  const plugin = [exported ?? []].flat().find(({ name }) => name === backend);
  if (plugin === undefined) {
    const text = `testBackend: ranks load backend "${backend}" from ${module}, but it is not the default export there`;
    throw new InvalidArgumentError(text, { argument: "module", backend });
  }
  registerBackend(plugin, { replace: true });
  return plugin;
}
