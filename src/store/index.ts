export { FileStore, type FileStoreOptions } from "./file/file-store.ts";
export { HashStore } from "./hash-store.ts";
export { PrefixStore } from "./prefix-store.ts";
export { RedisStore, type RedisStoreOptions } from "./redis/redis-store.ts";
export { type QueuePopOptions, Store, type StoreCallOptions, type StoreValue } from "./store.ts";
export {
  type ClientCounter,
  TCPStore,
  type TCPStoreCloseOptions,
  type TCPStoreOptions,
  TCPStoreServer,
  type TCPStoreServerOptions,
} from "./tcp/index.ts";
