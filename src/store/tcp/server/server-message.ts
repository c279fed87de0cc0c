import type { ErrorDetails } from "../../../errors/index.ts";
import type { TCPStoreServerOptions } from "./server.ts";

/** Options of a server in a Worker: without functions, which cannot be sent to it, and with an explicit secret. */
export type HostedServerOptions = Omit<TCPStoreServerOptions, "onDrop" | "secret"> & { readonly secret: string | null };

/** To the Worker. */
export type ServerCommand =
  | { readonly kind: "listen"; readonly options: HostedServerOptions }
  | { readonly kind: "drain"; readonly id: number; readonly timeoutMs: number }
  | { readonly kind: "close" };

/** From the Worker. */
export type ServerEvent =
  | { readonly kind: "listening"; readonly address: string; readonly port: number }
  | {
      readonly kind: "failed";
      readonly name: string;
      readonly message: string;
      readonly code: string;
      readonly details: ErrorDetails;
    }
  | { readonly kind: "refused"; readonly reason: string; readonly peer: string }
  | { readonly kind: "drained"; readonly id: number; readonly empty: boolean }
  | { readonly kind: "closed" };
