export type { ClientCounter } from "./call-counters.ts";
export { TCPStoreServer, type TCPStoreServerOptions } from "./server.ts";
export { TCPStore, type TCPStoreCloseOptions, type TCPStoreOptions } from "./tcp-store.ts";
