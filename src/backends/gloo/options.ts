/**
 * Options of the Gloo backend: `initProcessGroup({ backend: "gloo", options: { … } })`. c10d:
 * `ProcessGroupGloo.Options`.
 */
export interface GlooOptions {
  /** IP address of this machine to listen on; or several, separated by commas: the same number on all ranks. */
  readonly host?: string;
  /** Network interface to listen on, e.g. `"eth0"`, or several, e.g. `"eth0,eth1"`: the same number on all ranks. */
  readonly interface?: string;
  /** Collectives that may run at the same time: 1 to 64, 2 by default, as in PyTorch. */
  readonly threads?: number;
}

declare module "../../registry/backend-options-by-name.ts" {
  interface BackendOptionsByName {
    readonly gloo: GlooOptions;
  }
}
