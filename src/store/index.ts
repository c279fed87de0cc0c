export { HashStore } from "./hash-store.ts";
export { PrefixStore } from "./prefix-store.ts";
export { type QueuePopOptions, Store, type StoreCallOptions, type StoreValue } from "./store.ts";
export {
  TCPStore,
  type TCPStoreCloseOptions,
  type TCPStoreOptions,
  TCPStoreServer,
  type TCPStoreServerOptions,
} from "./tcp/index.ts";
