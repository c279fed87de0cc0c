import type { DependencyContainer } from "tsyringe";
import type { OptionNames } from "../collectives/option-names.ts";
import type { BackendType, OptionsOf } from "../registry/index.ts";
import type { Store } from "../store/store.ts";
import type { Device } from "../tensor/index.ts";
import type { Timeout } from "../time/index.ts";

/** Options of `initProcessGroup`. */
export interface InitOptions<Name extends string = string> {
  /**
   * `"gloo"` or `BackendType.GLOO`, or a backend per device such as `"cpu:gloo,cuda:nccl"`. Default: `C10D_BACKEND`,
   * else `"cpu:gloo,cuda:nccl"` where NCCL and a CUDA device can be used, else `"gloo"`.
   */
  readonly backend?: Name | BackendType;
  /**
   * The device that this rank's group is bound to: an ordinal or a name, such as `1` or `"cuda:1"`; `"cuda"` is the
   * current one (`cuda.setDevice()`). It becomes `group.boundDevice`, and NCCL connects at once. It does not become the
   * current device: tensors are made there by `{ device: group.boundDevice }`, or after
   * `cuda.setDevice(group.boundDevice)`.
   *
   * Without it, a group of NCCL takes tensors of any CUDA device; other backends for devices take those of the first.
   * c10d: `device_id`.
   */
  readonly deviceId?: number | string | Device;
  /** Where the ranks meet: `env://` (default), `tcp://host:port`, or a registered scheme. */
  readonly init?: string;
  /** The c10d name of `init`. */
  readonly initMethod?: string;
  /** A store to meet in, instead of `init`. Requires `rank` and `worldSize`. */
  readonly store?: Store;
  /** Rank of this process, if neither the URL nor the environment specifies it. */
  readonly rank?: number;
  /** Number of ranks, if neither the URL nor the environment specifies it. */
  readonly worldSize?: number;
  /**
   * Time-out of the rendezvous and of creating each backend and middleware, and default time-out of ops. 30 minutes by
   * default, 10 for `"nccl"` (the rendezvous: 5).
   */
  readonly timeout?: Timeout;
  /**
   * Where backends, middleware, rendezvous handlers, logger, clock and flight recorder come from. Defaults to the
   * default container.
   */
  readonly container?: DependencyContainer;
  /**
   * Whether to look for NaN in the tensors that this rank sends, before each op: the op then fails (`NAN_FOUND`), and the
   * group with it. Default: TORCH_DIST_NAN_CHECK or TORCH_NCCL_NAN_CHECK, else false.
   */
  readonly checkForNan?: boolean;
  /** Options for the backend, e.g. `{ interface: "eth0" }` for gloo. With several backends, keyed by their names. */
  readonly options?: OptionsOf<Name>;
}

export type AnyInitOptions = Omit<InitOptions, "options"> & { readonly options?: unknown };

/** Names of the options. */
export const optionNames: OptionNames<InitOptions> = {
  backend: true,
  deviceId: true,
  init: true,
  initMethod: true,
  store: true,
  rank: true,
  worldSize: true,
  timeout: true,
  container: true,
  checkForNan: true,
  options: true,
};
