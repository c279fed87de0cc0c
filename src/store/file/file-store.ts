import { resolve } from "node:path";
import { InvalidArgumentError, loaded } from "../../errors/index.ts";
import { timeoutMs } from "../../time/index.ts";
import { checkAmount, checkKeys, checkMade, checkPairs, checkWorldSize } from "../arguments.ts";
import { addToCounter, equalBytes, type KeyValueTable, safeIntegerRange } from "../key-value-table.ts";
import { type QueuePopOptions, queueEmpty, Store, type StoreCallOptions, type StoreValue } from "../store.ts";
import { ownBytes } from "../store-value.ts";
import { deletePrefix, popPrefix, pushPrefix, type StoreRecord, userPrefix } from "./record.ts";
import type { FileCall, FileStoreOptions, SharedFile } from "./shared-file.ts";

export type { FileStoreOptions } from "./shared-file.ts";

const empty = new Uint8Array(0);

/**
 * A store in a file that processes share, in PyTorch's format and under its locks: processes of both can use one file,
 * on one host or over a network file system with flock(2).
 *
 * The file grows with every change. A process that is killed while it writes leaves an incomplete record, which others
 * skip and truncate. A process that exits without {@link close} stays counted, so that the file stays: remove it before
 * the path is used for another job. Queues are records that PyTorch sees as two additional keys.
 *
 * Unlike upstream's, `deleteKey` returns whether the key existed, `append` is atomic, time-outs are in milliseconds,
 * and waits are woken by notifications of the file system; they poll every 10 ms only where there are none.
 *
 * c10d: `torch.distributed.FileStore`.
 */
export class FileStore extends Store {
  /** The file, as an absolute path. */
  readonly path: string;
  readonly #file: SharedFile;
  readonly #worldSize: number | undefined;
  readonly #anyOwner: boolean;

  /**
   * Opens the store in the file `path`, which is created if it does not exist; its folder must exist.
   *
   * With `worldSize` the file is removed when as many handles have been closed and none is open; without (or when it is
   * negative) it stays. The options apply to opening, and the time-out also to later calls.
   * Only this user can access a new file.
   * @throws DistStoreError `STORE_IO` when the file cannot be opened, `UNTRUSTED_FILE` when another user controls it
   * (see {@link FileStoreOptions.anyOwner}), `STORE_CORRUPT` when it is another kind of file, `LOCKS_UNSUPPORTED`;
   * DistTimeoutError when another process holds its lock.
   */
  static async open(path: string, worldSize?: number, options: FileStoreOptions = {}): Promise<FileStore> {
    if (typeof path !== "string" || path === "" || path.includes("\0")) {
      throw new InvalidArgumentError("FileStore: path must be the path of a file", { argument: "path" });
    }
    const size = worldSize === undefined || worldSize < 0 ? undefined : worldSize;
    if (size !== undefined) checkWorldSize("open", size);
    const limitMs = timeoutMs(options.timeout, 300_000);
    options.signal?.throwIfAborted();
    const { SharedFile } = await loaded(import("./shared-file.ts"));
    const file = await SharedFile.open(resolve(path), size, options, limitMs);
    const store = new FileStore(file, size, options.anyOwner ?? false);
    store.setTimeout(limitMs);
    return store;
  }

  private constructor(file: SharedFile, worldSize: number | undefined, anyOwner: boolean) {
    super();
    checkMade(file, "FileStore", "FileStore.open(path)");
    this.#anyOwner = anyOwner;
    this.path = file.path;
    this.#file = file;
    this.#worldSize = worldSize;
  }

  async set(key: string, value: StoreValue, options?: StoreCallOptions): Promise<void> {
    const records = [{ key: fileKey("set", key), value: ownBytes(value) }];
    await this.#file.write(this.#call("set", [key], options), () => ({ records, result: undefined }));
  }

  async get(key: string, options?: StoreCallOptions): Promise<Uint8Array> {
    const [value = empty] = await this.#getAll("get", [key], options);
    return value;
  }

  async add(key: string, amount: number, options?: StoreCallOptions): Promise<number> {
    const name = fileKey("add", key);
    checkAmount(key, amount);
    return this.#file.write(this.#call("add", [key], options), (table) => {
      const sum = addToCounter(key, table.get(name), amount, safeIntegerRange);
      return { records: [{ key: name, value: ownBytes(sum.toString()) }], result: Number(sum) };
    });
  }

  async check(keys: readonly string[], options?: StoreCallOptions): Promise<boolean> {
    const names = fileKeys("check", keys);
    return this.#file.read(this.#call("check", keys, options), (table) => table.hasAll(names));
  }

  async compareSet(
    key: string,
    expected: StoreValue,
    desired: StoreValue,
    options?: StoreCallOptions,
  ): Promise<Uint8Array> {
    const name = fileKey("compareSet", key);
    const [before, after] = [ownBytes(expected), ownBytes(desired)];
    const result = await this.#file.write(this.#call("compareSet", [key], options), (table) => {
      const current = table.get(name);
      const sets = equalBytes(current ?? empty, before);
      return sets
        ? { records: [{ key: name, value: after }], result: after }
        : { records: [], result: current ?? before };
    });
    return ownBytes(result);
  }

  async deleteKey(key: string, options?: StoreCallOptions): Promise<boolean> {
    const name = fileKey("deleteKey", key);
    return this.#file.write(this.#call("deleteKey", [key], options), (table) =>
      table.get(name) === undefined
        ? { records: [], result: false }
        : { records: [{ key: deletePrefix + name, value: empty }], result: true },
    );
  }

  override async wait(keys: readonly string[], options?: StoreCallOptions): Promise<void> {
    const names = fileKeys("wait", keys);
    const call = this.#call("wait", keys, options);
    const isThere = (table: KeyValueTable) => (table.hasAll(names) ? true : undefined);
    await this.#file.until(call, names, waiters, () => this.#file.read(call, isThere));
  }

  /** Number of keys. As in c10d, it counts the store's own: `refcount/`, and `cleanup/` after the first close. */
  override async numKeys(options?: StoreCallOptions): Promise<number> {
    return this.#file.read(this.#call("numKeys", [], options), (table) => table.size);
  }

  override hasExtendedApi(): boolean {
    return true;
  }

  override async append(key: string, value: StoreValue, options?: StoreCallOptions): Promise<void> {
    const name = fileKey("append", key);
    const addition = ownBytes(value);
    await this.#file.write(this.#call("append", [key], options), (table) => {
      const joined = Buffer.concat([table.get(name) ?? empty, addition]);
      return { records: [{ key: name, value: joined }], result: undefined };
    });
  }

  override async multiGet(keys: readonly string[], options?: StoreCallOptions): Promise<Uint8Array[]> {
    return this.#getAll("multiGet", keys, options);
  }

  override async multiSet(
    keys: readonly string[],
    values: readonly StoreValue[],
    options?: StoreCallOptions,
  ): Promise<void> {
    checkPairs(keys, values);
    const names = fileKeys("multiSet", keys);
    const records = values.map((value, i) => ({ key: names[i] ?? "", value: ownBytes(value) }));
    await this.#file.write(this.#call("multiSet", keys, options), () => ({ records, result: undefined }));
  }

  override async queuePush(key: string, value: StoreValue, options?: StoreCallOptions): Promise<void> {
    const records = [{ key: pushPrefix + fileKey("queuePush", key), value: ownBytes(value) }];
    await this.#file.write(this.#call("queuePush", [key], options), () => ({ records, result: undefined }));
  }

  override async queuePop(key: string, options: QueuePopOptions = {}): Promise<Uint8Array> {
    const name = fileKey("queuePop", key);
    const call = this.#call("queuePop", [key], options);
    const pop = () =>
      this.#file.write<Uint8Array | undefined>(call, (table) => {
        const first = table.queueFirst(name);
        const records: StoreRecord[] = first === undefined ? [] : [{ key: popPrefix + name, value: empty }];
        return { records, result: first };
      });
    if (options.block !== false) return this.#file.until(call, [name], ({ queueWaiters }) => queueWaiters, pop);
    const element = await pop();
    if (element === undefined) throw queueEmpty(key);
    return element;
  }

  override async queueLen(key: string, options?: StoreCallOptions): Promise<number> {
    const name = fileKey("queueLen", key);
    return this.#file.read(this.#call("queueLen", [key], options), (table) => table.queueLength(name));
  }

  override async listKeys(options?: StoreCallOptions): Promise<string[]> {
    const names = await this.#file.read(this.#call("listKeys", [], options), (table) => table.keys());
    return names.filter((name) => name.startsWith(userPrefix)).map((name) => name.slice(userPrefix.length));
  }

  /** Another handle on the same file, counted like this one. */
  override async clone(): Promise<FileStore> {
    const { limitMs } = this.#call("clone", []);
    return FileStore.open(this.path, this.#worldSize ?? -1, { timeout: limitMs, anyOwner: this.#anyOwner });
  }

  /**
   * Closes the handle; calls in flight reject.
   * @throws DistTimeoutError when another process holds the lock for 2 s: the handle is closed, but stays counted.
   */
  override close(): Promise<void> {
    return this.#file.close();
  }

  #call(op: string, keys: readonly string[], options?: StoreCallOptions): FileCall {
    return this.#file.call(op, keys, options, this.timeout);
  }

  async #getAll(op: string, keys: readonly string[], options?: StoreCallOptions): Promise<Uint8Array[]> {
    const names = fileKeys(op, keys);
    const call = this.#call(op, keys, options);
    const values = (table: KeyValueTable) =>
      table.hasAll(names)
        ? // A filled queue of this name satisfies a wait, as in c10d, but has no value.
          names.map((name) => ownBytes(table.get(name) ?? empty))
        : undefined;
    return this.#file.until(call, names, waiters, () => this.#file.read(call, values));
  }
}

const waiters = (table: KeyValueTable) => table.waiters;

function fileKey(op: string, key: string): string {
  checkKeys(op, [key]);
  return userPrefix + key.toWellFormed();
}

function fileKeys(op: string, keys: readonly string[]): string[] {
  checkKeys(op, keys);
  return keys.map((key) => userPrefix + key.toWellFormed());
}
