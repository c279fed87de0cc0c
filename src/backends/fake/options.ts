/** Options of the fake backend: `initProcessGroup({ backend: "fake", options: { … } })`. */
export interface FakeOptions {
  /**
   * `local`: all ranks are in this process and exchange real data (see `localRanks`). `solo`: this process pretends to
   * be one rank of many, and nobody else is there. Default is `local`.
   */
  readonly mode?: "local" | "solo";
  /** Local: delivers results later, in an order that this number decides. Default: at once, in the order of ranks. */
  readonly seed?: number;
  /** Solo: every collective fails. Default is `false`. */
  readonly errorOnCollective?: boolean;
  /** Solo: milliseconds until an op ends. Default is 0: it has ended when the call returns. */
  readonly delayMs?: number;
  /** Solo: sequence number of the collective that fails, and the group with it; the first one is 1. Default: none. */
  readonly failAt?: number;
}

declare module "../../registry/backend-options-by-name.ts" {
  interface BackendOptionsByName {
    readonly fake: FakeOptions;
  }
}
