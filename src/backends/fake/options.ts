/** Options of the fake backend: `initProcessGroup({ backend: "fake", options: { … } })`. */
export interface FakeOptions {
  /**
   * `local`: all ranks are in this process and exchange real data (see `localRanks`). `solo`: this process pretends to
   * be one rank of many, without any others. Default is `local`.
   */
  readonly mode?: "local" | "solo";
  /** Local: delivers results later, in an order that this number determines. Default: at once, in rank order. */
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
