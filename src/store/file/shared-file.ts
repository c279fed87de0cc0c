import { DistTimeoutError } from "../../errors/index.ts";
import { timeoutMs } from "../../time/index.ts";
import type { KeyValueTable } from "../key-value-table.ts";
import type { KeyWaiters } from "../key-waiters.ts";
import { PendingWaits } from "../pending-waits.ts";
import { type StoreCallOptions, storeClosed } from "../store.ts";
import { FileWatch } from "./file-watch.ts";
import { cleanupKey, refcountKey, type StoreRecord } from "./record.ts";
import { type Access, Replica } from "./replica.ts";
import { TransactionQueue } from "./transaction-queue.ts";

/** How long closing a handle may take. */
const closeLimitMs = 2_000;
/** How long one read for pending waits may take. */
const lookLimitMs = 1_000;

/** A call on the file. */
export interface FileCall {
  readonly op: string;
  readonly keys: readonly string[];
  readonly limitMs: number;
  readonly deadline: number;
  readonly signal: AbortSignal | undefined;
}

/** How {@link FileStore.open} opens its file. */
export interface FileStoreOptions extends StoreCallOptions {
  /** Whether the file may belong to another user, or be writable by all users (docs/security.md). Default false. */
  readonly anyOwner?: boolean;
}

/** The file of a store as one handle sees it: transactions, waits, and the count of handles. */
export class SharedFile {
  readonly path: string;
  readonly #worldSize: number | undefined;
  readonly #replica: Replica;
  readonly #queue: TransactionQueue;
  readonly #watch: FileWatch;
  readonly #waits = new PendingWaits();
  /** The generation of the file that counts this handle. */
  #countedIn = 0;
  #seenGeneration = 0;
  #looking = false;
  #closing: Promise<void> | undefined;

  /** Opens or creates the file and counts the handle. `worldSize` as in {@link FileStore.open}. */
  static async open(path: string, worldSize: number | undefined, limits: FileStoreOptions, limitMs: number) {
    const file = new SharedFile(path, worldSize, limits.anyOwner ?? false);
    try {
      await file.transact(file.call("open", [], limits, limitMs), "write", (replica) => {
        replica.append([counted(replica.table, refcountKey, 1)]);
        file.#countedIn = replica.generation;
      });
    } catch (error) {
      file.#replica.close();
      throw error;
    }
    return file;
  }

  private constructor(path: string, worldSize: number | undefined, anyOwner: boolean) {
    this.path = path;
    this.#worldSize = worldSize;
    this.#replica = new Replica(path, anyOwner);
    this.#queue = new TransactionQueue(this.#replica);
    this.#watch = new FileWatch(path, () => this.#look());
  }

  /** The limits of a call that begins now. */
  call(op: string, keys: readonly string[], options: StoreCallOptions | undefined, defaultMs: number): FileCall {
    if (this.#closing) throw storeClosed(op);
    options?.signal?.throwIfAborted();
    const limitMs = timeoutMs(options?.timeout, defaultMs);
    return { op, keys: [...keys], limitMs, deadline: performance.now() + limitMs, signal: options?.signal };
  }

  /** Reads the current contents. */
  read<T>(call: FileCall, look: (table: KeyValueTable) => T): Promise<T> {
    return this.transact(call, "read", ({ table }) => look(table));
  }

  /** Adds the records that `change` makes from the current contents. */
  write<T>(
    call: FileCall,
    change: (table: KeyValueTable) => { readonly records: readonly StoreRecord[]; readonly result: T },
  ): Promise<T> {
    return this.transact(call, "write", (replica) => {
      const { records, result } = change(replica.table);
      replica.append(records);
      return result;
    });
  }

  /** Repeats `attempt` until it returns a value, each time after one of `keys` was set. They are as in the file. */
  async until<T>(
    call: FileCall,
    keys: readonly string[],
    waitersOf: (table: KeyValueTable) => KeyWaiters,
    attempt: () => Promise<T | undefined>,
  ): Promise<T> {
    for (;;) {
      const found = await attempt();
      if (found !== undefined) return found;
      if (this.#closing) throw storeClosed(call.op);
      call.signal?.throwIfAborted();
      const waiting = this.#waits.add(waitersOf(this.#replica.table), { ...call, tableKeys: keys });
      this.#watch.start();
      this.#look();
      try {
        await waiting;
      } finally {
        if (this.#waits.size === 0) this.#watch.stop();
      }
    }
  }

  /** Removes the handle from the count; the last one removes the file. See {@link FileStore.open}. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  private async transact<T>(call: FileCall, access: Access, body: (replica: Replica) => T): Promise<T> {
    if (this.#closing) throw storeClosed(call.op);
    const result = await this.#queue.add({ ...call, access, body });
    const { generation, torn } = this.#replica;
    if (generation !== this.#seenGeneration) this.#watch.rearm();
    this.#seenGeneration = generation;
    if (torn) this.#repair();
    return result;
  }

  /** Reads what other processes wrote, for pending waits. */
  #look(): void {
    if (this.#looking || this.#closing || !this.#queue.isEmpty) return;
    this.#looking = true;
    this.transact(inner("wait", lookLimitMs), "read", () => {})
      .catch((error: unknown) => {
        // Each wait has its own limit, and looks again.
        if (!(error instanceof DistTimeoutError)) this.#waits.fail(error);
      })
      .finally(() => {
        this.#looking = false;
      });
  }

  /** Truncates a record that its writer will not complete. PyTorch's readers never finish reading one. */
  #repair(): void {
    // The next holder of the lock repairs it too, so a failure here does not matter.
    const repair = { ...inner("repair", lookLimitMs), access: "change-existing", body: () => {} } as const;
    this.#queue.add(repair).catch(() => {});
  }

  async #close(): Promise<void> {
    this.#queue.clear(storeClosed("a call"));
    this.#waits.fail(storeClosed("a wait"));
    this.#watch.stop();
    const countOut = (replica: Replica) => this.#countOut(replica);
    try {
      await this.#queue.add({ ...inner("close", closeLimitMs), access: "change-existing", body: countOut });
    } finally {
      this.#replica.close();
    }
  }

  #countOut(replica: Replica): void {
    if (!replica.exists || replica.generation !== this.#countedIn) return;
    const closed = counted(replica.table, cleanupKey, 1);
    const open = counted(replica.table, refcountKey, -1);
    replica.append([closed, open]);
    const [closedCount, openCount] = [closed, open].map(({ value }) => Number(text(value)));
    if (this.#worldSize !== undefined && openCount === 0 && Number(closedCount) >= this.#worldSize) replica.remove();
  }
}

/** A call of the handle itself. */
function inner(op: string, limitMs: number): FileCall {
  return { op, keys: [], limitMs, deadline: performance.now() + limitMs, signal: undefined };
}

function counted(table: KeyValueTable, key: string, amount: number): StoreRecord {
  const count = Number(text(table.get(key))) + amount;
  return { key, value: new TextEncoder().encode(String(count)) };
}

function text(bytes: Uint8Array | undefined): string {
  return new TextDecoder().decode(bytes);
}
