import type { Store } from "../../store/store.ts";
import type { Device, DeviceType } from "../../tensor/index.ts";
import type { Clock } from "../services/clock.ts";
import type { Logger } from "../services/logger.ts";
import type { Backend } from "./backend.ts";
import type { BackendType } from "./backend-type.ts";
import type { Capabilities } from "./capabilities.ts";
import type { OptionsSchema } from "./standard-schema.ts";

/** What a plugin makes a backend from. */
export interface BackendContext<Options extends object = object> {
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
  /** What the group is for, as given when it was created. */
  readonly groupDescription: string;
  /** Device of the tensors of all calls; with index {@link ANY_INDEX}, any of its type: see `anyDevice`. */
  readonly device: Device;
  /** Time-out of connecting, and of ops without their own, in milliseconds. */
  readonly timeoutMs: number;
  /** The user's options, as the plugin's schema returned them; empty if none were given. */
  readonly options: Readonly<Partial<Options>>;
  /** The logger of the container; adds group, rank and backend to each message. */
  readonly logger: Logger;
  /** The clock for time-outs that the backend enforces in TypeScript; the third argument of `MethodBackend`. */
  readonly clock: Clock;
}

/** Whether a backend can run here. */
export type Availability =
  | {
      readonly available: true;
      /** Version of the backend, or of the native library that it wraps. */
      readonly version: string;
      /** A note for `c10d info`. */
      readonly detail?: string;
      /** The native library that was found. */
      readonly library?: { readonly path: string; readonly abi: number };
    }
  | { readonly available: false; readonly reason: string; readonly remedy: string };

/** The ranks of a job whose launcher, such as mpirun, communicates with the native library itself. */
export interface LaunchedWorld {
  readonly rank: number;
  readonly worldSize: number;
  /** Whether all ranks are known to be on one host. */
  readonly oneHost: boolean;
  /**
   * Sends rank 0's bytes, 1 kB at most, to all ranks; all call it, and the bytes of the others are ignored. A backend
   * omits it if some ranks are other programs that do not call it: then each rank has its own store.
   */
  share?(value: Uint8Array): Promise<Uint8Array>;
}

/** Parameters of {@link BackendPlugin.launched}. */
export interface LaunchTerms<Options extends object = object> {
  /** Time-out of the start, in milliseconds. */
  readonly timeoutMs: number;
  readonly options: Readonly<Partial<Options>>;
}

/**
 * A kind of backend. Register it with `registerBackend()`; then `initProcessGroup({ backend: plugin.name })` uses it.
 * docs/backends.md describes how it can be discovered instead.
 */
export interface BackendPlugin<Options extends object = object> {
  /** Lower-case name by which users select it. */
  readonly name: string;
  /** `BackendType.CUSTOM`; the other types belong to c10d's own backends, `gloo`, `nccl`, `ucc` and `mpi`. */
  readonly type: BackendType;
  /**
   * Version of this contract that the plugin was written for, as a literal number rather than `BACKEND_SDK_VERSION`,
   * which is always that of the package it runs with.
   */
  readonly sdk: number;
  /**
   * `import.meta.url` of the file whose default export is this plugin, so that ranks in other processes can load it.
   */
  readonly module?: string;
  /** Types of device whose tensors it accepts. */
  readonly devices: readonly DeviceType[];
  /**
   * Whether a backend takes tensors of every device of a type, if the group is not bound to one by `deviceId`. Then the
   * index of `BackendContext.device` is {@link ANY_INDEX}, also in calls without tensors. Default is `false`: that group
   * is on the first device.
   */
  readonly anyDevice?: boolean;
  /** How ranks find each other: in the group's store, or by the native library itself (MPI). */
  readonly bootstrap: "store" | "self";
  /** What its backends can do at most; an instance may claim less. */
  readonly capabilities: Capabilities;
  /**
   * Whether the capabilities of an instance may differ between ranks, by its options or the version of its library.
   * Then the ranks of each group exchange them, and the group has those of all. Default is `false`: the instances of a
   * group are alike.
   */
  readonly instancesDiffer?: boolean;
  /**
   * Returns what checks the user's options; called only if there are any, so that it can load a schema library with
   * `import()`. A plugin without it accepts no options.
   */
  options?(): OptionsSchema<Options> | Promise<OptionsSchema<Options>>;
  /**
   * For a backend with `bootstrap: "self"`: starts the native library in this process and returns the rank and the size
   * of the job, which `initProcessGroup` then does not need.
   */
  launched?(terms: LaunchTerms<Options>): Promise<LaunchedWorld>;
  /**
   * Checks whether it can run here, without side effects.
   * @param options What the user passed as its options, not checked yet, for a plugin where these say for instance where a
   *   library is; `undefined` without any, and for `c10d info`.
   */
  probe(options?: unknown): Promise<Availability>;
  /** Creates a backend; resolves when it is connected to all ranks. Every rank of the group calls it. */
  create(context: BackendContext<Options>): Promise<Backend>;
}
