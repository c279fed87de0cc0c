export type { ClientCounter } from "./client/call-counters.ts";
export { TCPStore } from "./client/tcp-store.ts";
export type { TCPStoreCloseOptions, TCPStoreOptions } from "./client/tcp-store-options.ts";
export { TCPStoreServer, type TCPStoreServerOptions } from "./server/server.ts";
