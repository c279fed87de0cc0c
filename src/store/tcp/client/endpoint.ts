import type { StoreSecret } from "../store-secret.ts";

/** Where a connection goes: `address` is one of the addresses of `host`. */
export interface Endpoint {
  readonly host: string;
  readonly address: string;
  readonly port: number;
  /** The secret that both ends first prove to know; without it they speak PyTorch's open protocol. */
  readonly secret?: StoreSecret | undefined;
}
