import type { Store } from "../../store/store.ts";
import type { Device, DeviceType } from "../../tensor/index.ts";
import type { Clock } from "../services/clock.ts";
import type { Logger } from "../services/logger.ts";
import type { Backend } from "./backend.ts";
import type { BackendType } from "./backend-type.ts";
import type { Capabilities } from "./capabilities.ts";
import type { OptionsSchema } from "./standard-schema.ts";

/** What a plugin gets to make a backend of. */
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
  /** What the group is for, as whoever made it has said. */
  readonly groupDescription: string;
  /** Device of the tensors of all calls. */
  readonly device: Device;
  /** Limit of connecting, and of ops that give none, in milliseconds. */
  readonly timeoutMs: number;
  /** What the user gave, as the plugin's schema returned it; empty where nothing was given. */
  readonly options: Readonly<Partial<Options>>;
  /** Passes remarks on to whoever runs the process; tells group, rank and backend by itself. */
  readonly logger: Logger;
  /** The clock by which the backend keeps its limits in TypeScript. `MethodBackend` takes it as its third argument. */
  readonly clock: Clock;
}

/** Whether a backend can run here. */
export type Availability =
  | {
      readonly available: true;
      /** Version of the backend, or of the native library that it wraps. */
      readonly version: string;
      /** A remark for `c10d info`. */
      readonly detail?: string;
      /** The native library that was found. */
      readonly library?: { readonly path: string; readonly abi: number };
    }
  | { readonly available: false; readonly reason: string; readonly remedy: string };

/** The ranks of a job whose launcher, mpirun for instance, speaks to the native library itself. */
export interface LaunchedWorld {
  readonly rank: number;
  readonly worldSize: number;
  /** Whether all ranks are known to be on one host. */
  readonly oneHost: boolean;
  /**
   * Gives rank 0's bytes, 1 kB at most, to all ranks; all call it, and those of the others do not matter. A backend
   * leaves it out where some ranks are other programs, which know nothing of it: then each rank has a store of its own.
   */
  share?(value: Uint8Array): Promise<Uint8Array>;
}

/** What {@link BackendPlugin.launched} gets. */
export interface LaunchTerms<Options extends object = object> {
  /** Limit of the start, in milliseconds. */
  readonly timeoutMs: number;
  readonly options: Readonly<Partial<Options>>;
}

/**
 * A kind of backend. Register it with `registerBackend()`; then `initProcessGroup({ backend: plugin.name })` uses it.
 * docs/backends.md tells the ways to have it found.
 */
export interface BackendPlugin<Options extends object = object> {
  /** Lower-case name by which users ask for it. */
  readonly name: string;
  /** `BackendType.CUSTOM`; the other types belong to c10d's own backends, `gloo`, `nccl`, `ucc` and `mpi`. */
  readonly type: BackendType;
  /**
   * Version of this contract that the plugin was written for, as a number of its own rather than
   * `BACKEND_SDK_VERSION`, which is always that of the package it runs with.
   */
  readonly sdk: number;
  /**
   * `import.meta.url` of the file whose default export is this plugin, so that ranks in other processes can load it.
   */
  readonly module?: string;
  /** Kinds of device whose tensors it takes. */
  readonly devices: readonly DeviceType[];
  /** How ranks find each other: in the group's store, or by the native library itself (MPI). */
  readonly bootstrap: "store" | "self";
  /** What its backends can do at most; an instance may claim less. */
  readonly capabilities: Capabilities;
  /**
   * Whether what an instance claims may differ from rank to rank, by its options or the version of its library. Then the ranks
   * of each group exchange it, and the group does what all of them can. Default is `false`: the instances of a group are alike.
   */
  readonly instancesDiffer?: boolean;
  /**
   * What checks the user's options; called only where there are some, so that a schema library can be loaded there, by
   * `import()`. A plugin without it takes no options.
   */
  options?(): OptionsSchema<Options> | Promise<OptionsSchema<Options>>;
  /**
   * For a backend with `bootstrap: "self"`: starts the native library in this process and tells the rank and the size of
   * the job, which `initProcessGroup` then need not be told.
   */
  launched?(terms: LaunchTerms<Options>): Promise<LaunchedWorld>;
  /** Tells whether it can run here, without side effects. */
  probe(): Promise<Availability>;
  /** Makes a backend; resolves when it is connected to all ranks. Every rank of the group calls it. */
  create(context: BackendContext<Options>): Promise<Backend>;
}
