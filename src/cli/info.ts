import type { Availability, Capabilities, DiscoveryFault } from "../registry/index.ts";

/** A backend as `c10d info --json` shows it; docs/backends.md describes it. */
export type BackendInfo = Availability & {
  readonly name: string;
  readonly type: string;
  /** `built in`, `registered`, or the place that names it. */
  readonly origin: string;
  /** Whether it was loaded and probed. Backends that packages declare are probed only with `--probe`. */
  readonly probed: boolean;
  /** Empty when the plugin was not or cannot be loaded; the next four are then `null`. */
  readonly devices: readonly string[];
  readonly sdk: number | null;
  readonly module: string | null;
  readonly bootstrap: string | null;
  readonly capabilities: Capabilities | null;
};

/** What `c10d info --json` prints. Later versions may add fields, but do not remove or change any. */
export interface Info {
  readonly package: { readonly name: string; readonly version: string };
  readonly sdk: number;
  readonly abi: number;
  readonly bun: string;
  readonly platform: {
    readonly os: string;
    readonly arch: string;
    readonly release: string;
    readonly cpus: number;
  };
  readonly backends: readonly BackendInfo[];
  /** Backends that were found but cannot be used. */
  readonly problems: readonly DiscoveryFault[];
  /** The variables of `c10d env` that are set. */
  readonly environment: Readonly<Record<string, string>>;
}
