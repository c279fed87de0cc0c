export type { ClientCounter } from "./call-counters.ts";
export { TCPStoreServer, type TCPStoreServerOptions } from "./server.ts";
export { TCPStore } from "./tcp-store.ts";
export type { TCPStoreCloseOptions, TCPStoreOptions } from "./tcp-store-options.ts";
