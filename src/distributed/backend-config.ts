import { describe, InvalidArgumentError } from "../errors/index.ts";
import type { BackendPlugin, BackendRegistry, BackendType, SettleLimit } from "../registry/index.ts";
import { type DeviceType, isDeviceType } from "../tensor/index.ts";

/**
 * The plugin of each device type: `"gloo"` and `BackendType.GLOO` stand for every device that gloo supports,
 * `"cpu:gloo,cuda:nccl"` names one for each.
 *
 * @param options What the user passed as options, for the plugins' probes: of several, by their names.
 * @param limit How long each plugin may take to load and to report whether it can run here.
 * @throws InvalidArgumentError for a malformed string, BackendUnavailableError for a backend that cannot run here,
 *   DistTimeoutError (`CONNECT_TIMEOUT`) for one that does not report it in time.
 *
 * c10d: `BackendConfig`.
 */
export async function resolveBackends(
  backend: string | BackendType,
  registry: BackendRegistry,
  limit?: SettleLimit,
  options?: unknown,
): Promise<Map<DeviceType, BackendPlugin>> {
  if (typeof backend === "number") return everyDeviceOf(await registry.require(backend, limit, options));
  if (typeof backend !== "string" || backend.trim() === "") {
    throw new InvalidArgumentError(
      `backend must be a name such as "gloo" or "cpu:gloo,cuda:nccl", got ${describe(backend)}`,
      {
        argument: "backend",
      },
    );
  }
  if (!backend.includes(":")) {
    return everyDeviceOf(await registry.require(backend.trim(), limit, options));
  }
  const plugins = new Map<DeviceType, BackendPlugin>();
  const pairs = backend.toLowerCase().split(",");
  const isOne = new Set(pairs.map((pair) => pair.split(":")[1]?.trim())).size === 1;
  for (const pair of pairs) {
    const [device = "", name = "", ...rest] = pair.split(":").map((part) => part.trim());
    if (!isDeviceType(device) || name === "" || rest.length > 0) {
      throw new InvalidArgumentError(
        `Invalid device:backend pairing: "${pair}" in "${backend}"; write for instance "cpu:gloo,cuda:nccl"`,
        { argument: "backend" },
      );
    }
    if (plugins.has(device)) {
      throw new InvalidArgumentError(`Duplicate device type ${device} in backend string: ${backend}`, {
        argument: "backend",
      });
    }
    const plugin = await registry.require(name, limit, isOne ? options : optionsFor(name, options));
    if (!plugin.devices.includes(device)) {
      throw new InvalidArgumentError(
        `backend "${name}" does not take ${device} tensors (it takes ${plugin.devices.join(", ")})`,
        { argument: "backend", backend: name },
      );
    }
    plugins.set(device, plugin);
  }
  return plugins;
}

/** What the user passed for one of several backends, which is checked later. */
export function optionsFor(name: string, options: unknown): unknown {
  return typeof options === "object" && options !== null ? Reflect.get(options, name) : undefined;
}

function everyDeviceOf(plugin: BackendPlugin): Map<DeviceType, BackendPlugin> {
  return new Map(plugin.devices.map((device) => [device, plugin]));
}
