import { operations } from "../collectives/op-table.ts";
import { reduceOpCodes } from "../collectives/reduce-op.ts";
import { didYouMean } from "../errors/nearest-name.ts";
import { deviceTypes, dtypeNames, isDeviceType } from "../tensor/index.ts";
import type { BackendPlugin } from "./contracts/backend-plugin.ts";
import { BackendType, backendTypeOf } from "./contracts/backend-type.ts";
import { sdkMismatch } from "./contracts/sdk-version.ts";

/** Why something is not a plugin. */
export interface PluginFault {
  readonly message: string;
  /** The field that is wrong. */
  readonly field: string;
}

/** What is wrong with a plugin; `undefined` when nothing is. Types check it too, but not in JavaScript. */
export function pluginFault(value: unknown): PluginFault | undefined {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    return { field: "plugin", message: `a plugin is an object with name, create() and so on, got ${kindOf(value)}` };
  }
  const plugin = value as { readonly [field in keyof BackendPlugin]?: unknown };
  // A plugin for another SDK may have other fields; then its version is the more useful reason.
  const mismatch = sdkMismatch(plugin);
  if (mismatch !== undefined && plugin.name !== undefined) return { field: "sdk", message: mismatch };
  const { name } = plugin;
  if (typeof name !== "string" || !/^[a-z][a-z0-9_-]*$/.test(name)) {
    const got = name === undefined || typeof name === "string" ? JSON.stringify(name) : kindOf(name);
    return { field: "name", message: `a backend's name is lower-case letters, digits, "-" and "_", got ${got}` };
  }
  const fault = (field: keyof BackendPlugin, message: string): PluginFault => ({
    field,
    message: `backend "${name}"${message.startsWith(":") ? "" : " "}${message}`,
  });
  if (plugin.type !== backendTypeOf(name)) {
    const given = typeof plugin.type === "number" ? BackendType[plugin.type] : undefined;
    const got = given === undefined ? kindOf(plugin.type) : `BackendType.${given}`;
    return fault("type", `must have the type BackendType.${BackendType[backendTypeOf(name)]}, got ${got}`);
  }
  for (const method of ["probe", "create"] as const) {
    if (typeof plugin[method] !== "function") {
      return fault(method, `must have a method ${method}(), got ${kindOf(plugin[method])}`);
    }
  }
  if (plugin.options !== undefined && typeof plugin.options !== "function") {
    return fault("options", `: options must be a function that returns the schema, got ${kindOf(plugin.options)}`);
  }
  if (plugin.module !== undefined && typeof plugin.module !== "string") {
    return fault("module", `: module must be import.meta.url, got ${kindOf(plugin.module)}`);
  }
  if (plugin.bootstrap !== "store" && plugin.bootstrap !== "self") {
    return fault("bootstrap", `: bootstrap must be "store" or "self", got ${JSON.stringify(plugin.bootstrap)}`);
  }
  if (plugin.anyDevice !== undefined && typeof plugin.anyDevice !== "boolean") {
    return fault("anyDevice", `: anyDevice must be true or false, got ${kindOf(plugin.anyDevice)}`);
  }
  if (!Array.isArray(plugin.devices)) {
    return fault("devices", `: devices must be a list of ${deviceTypes.join(", ")}, got ${kindOf(plugin.devices)}`);
  }
  if (plugin.devices.length === 0) return fault("devices", "takes no kind of device");
  const device = plugin.devices.find((each) => !isDeviceType(each));
  if (device !== undefined) {
    return fault("devices", `: device ${JSON.stringify(device)} is not one of ${deviceTypes.join(", ")}`);
  }
  const twice = plugin.devices.find((each, i, all) => all.indexOf(each) < i);
  if (twice !== undefined) return fault("devices", `: devices has ${JSON.stringify(twice)} twice`);
  const wrongCell = capabilitiesFault(plugin.capabilities);
  return wrongCell === undefined ? undefined : fault("capabilities", wrongCell);
}

/** What is wrong with a capability table; `undefined` when nothing is. */
export function capabilitiesFault(capabilities: unknown): string | undefined {
  const { ops, reduceOps } = (capabilities ?? {}) as { readonly ops?: unknown; readonly reduceOps?: unknown };
  return (
    tableFault("ops", ops, { rows: operations, cells: dtypeNames }) ??
    tableFault("reduceOps", reduceOps, { rows: dtypeNames, cells: Object.keys(reduceOpCodes) })
  );
}

function tableFault(
  name: string,
  table: unknown,
  known: { readonly rows: readonly string[]; readonly cells: readonly string[] },
): string | undefined {
  const path = `: capabilities.${name}`;
  if (typeof table !== "object" || table === null) return `${path} must be a table, got ${kindOf(table)}`;
  for (const [row, cells] of Object.entries(table)) {
    if (!known.rows.includes(row)) return `${path} has the unknown row "${row}"${didYouMean(row, known.rows)}`;
    if (!Array.isArray(cells)) return `${path}.${row} must be a list, got ${kindOf(cells)}`;
    const cell = cells.find((each) => !known.cells.includes(each));
    if (cell !== undefined) {
      return `${path}.${row} has the unknown value ${JSON.stringify(cell)}${didYouMean(String(cell), known.cells)}`;
    }
  }
  return undefined;
}

function kindOf(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  return Array.isArray(value) ? "a list" : typeof value === "object" ? "an object" : `a ${typeof value}`;
}
