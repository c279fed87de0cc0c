import type { Store } from "../store/store.ts";
import type { Device, DeviceType } from "../tensor/index.ts";
import type { Backend } from "./backend.ts";
import type { BackendType } from "./backend-type.ts";
import type { Capabilities } from "./capabilities.ts";

/** What a plugin gets to make a backend of. */
export interface BackendContext {
  /** Store of this group and device alone: keys need no prefix. */
  readonly store: Store;
  /** Rank in the group. */
  readonly rank: number;
  /** Number of ranks in the group. */
  readonly size: number;
  /** Global rank of each rank of the group. */
  readonly globalRanks: readonly number[];
  /** Name of the group; "0" is the default group. */
  readonly groupName: string;
  readonly groupDescription: string;
  readonly device: Device;
  /** Limit of connecting, and of ops that give none, in milliseconds. */
  readonly timeoutMs: number;
  /** Options for this backend as the user gave them. */
  readonly options: Readonly<Record<string, unknown>>;
  /** Passes a remark on to whoever runs the process. */
  log(text: string): void;
}

/** Whether a backend can run here. */
export type Availability =
  | { readonly available: true; readonly version: string; readonly detail?: string }
  | { readonly available: false; readonly reason: string; readonly remedy: string };

/**
 * A kind of backend. Register it with `registerBackend()`; then `initProcessGroup({ backend: plugin.name })` uses it.
 */
export interface BackendPlugin {
  /** Lower-case name by which users ask for it. */
  readonly name: string;
  readonly type: BackendType;
  /**
   * `import.meta.url` of the file whose default export is this plugin, so that ranks in other processes can load it.
   */
  readonly module?: string;
  /** Kinds of device whose tensors it takes. */
  readonly devices: readonly DeviceType[];
  /** How ranks find each other: in the group's store, or by the native library itself (MPI). */
  readonly bootstrap: "store" | "self";
  readonly capabilities: Capabilities;
  /** Tells whether it can run here, without side effects. */
  probe(): Promise<Availability>;
  /** Makes a backend; resolves when it is connected to all ranks. Every rank of the group calls it. */
  create(context: BackendContext): Promise<Backend>;
}
