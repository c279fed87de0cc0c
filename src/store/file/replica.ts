import { closeSync, fstatSync, ftruncateSync, openSync, readSync, statSync, unlinkSync, writeSync } from "node:fs";
import { DistStoreError, messageOf, shortageOf } from "../../errors/index.ts";
import { KeyValueTable } from "../key-value-table.ts";
import { requireOwnFile, requireOwnLink } from "./file-owner.ts";
import { releaseLock, tryLock } from "./flock.ts";
import {
  decodeRecords,
  deletePrefix,
  encodeRecords,
  popPrefix,
  pushPrefix,
  refcountKey,
  type StoreRecord,
} from "./record.ts";

const chunkBytes = 1 << 20;
/** PyTorch's file is 0644: any user could then read addresses there, and lock it. */
const fileMode = 0o600;

/** What the first process that opens a store writes. */
const firstRecord = Buffer.from(encodeRecords([{ key: refcountKey, value: Buffer.from("1") }]));

/** How a transaction uses the file. */
export type Access = "read" | "write" | "change-existing";

/**
 * The contents of a store's file in memory, brought up to date by replaying what was added. All of it is synchronous:
 * the lock is never held across an `await`.
 *
 * The file is kept open, so that its inode number is not reused. A path that leads to another file (the store was
 * removed and created again) is detected under the lock.
 */
export class Replica {
  readonly path: string;
  readonly table = new KeyValueTable();
  readonly #anyOwner: boolean;
  #fd: number | undefined;
  #ino = -1;
  #offset = 0;
  /** Number of files this was opened on; more than one when the store was removed and created again. */
  generation = 0;
  /** Whether there is a file. */
  exists = false;
  /** Whether the file ends within a record. Its writer has died, since it was read under the lock. */
  torn = false;

  /** `anyOwner` is whether other users may control the file. */
  constructor(path: string, anyOwner: boolean) {
    this.path = path;
    this.#anyOwner = anyOwner;
  }

  /** Whether the file is unchanged since it was last read. */
  isCurrent(): boolean {
    const found = this.#stat();
    if (found === undefined) return !this.exists && this.generation > 0;
    return this.#fd !== undefined && found.ino === this.#ino && found.size === this.#offset;
  }

  /** Brings the table up to date and runs `body` under the lock; `false` if another process holds it. */
  transact(access: Access, body: () => void): boolean {
    if (access === "read" && this.isCurrent()) {
      body();
      return true;
    }
    for (;;) {
      const fd = this.#open(access === "write");
      if (fd === undefined) {
        body();
        return true;
      }
      if (!tryLock(fd, access === "read" ? "shared" : "exclusive", this.path)) return false;
      try {
        // The previous holder of the lock may have removed the file.
        if (this.#stat()?.ino !== this.#ino) continue;
        this.#replay(fd, access !== "read");
        body();
        return true;
      } finally {
        releaseLock(fd);
      }
    }
  }

  /** Writes records at the end of the file, all or none. Only in a transaction that writes. */
  append(records: readonly StoreRecord[]): void {
    const fd = this.#fd;
    if (records.length === 0 || fd === undefined) return;
    const bytes = encodeRecords(records);
    try {
      for (let done = 0; done < bytes.length; ) {
        done += writeSync(fd, bytes, done, bytes.length - done, this.#offset + done);
      }
    } catch (error) {
      ftruncateSync(fd, this.#offset);
      throw this.#failure("cannot write to", error);
    }
    this.#offset += bytes.length;
    for (const record of records) this.#apply(record);
  }

  /** Removes the file. Only in a transaction that writes. */
  remove(): void {
    unlinkSync(this.path);
    this.exists = false;
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  #stat(): { readonly ino: number; readonly size: number } | undefined {
    try {
      return statSync(this.path, { throwIfNoEntry: false });
    } catch (error) {
      throw this.#failure("cannot inspect", error);
    }
  }

  /** The file that the path leads to now. */
  #open(create: boolean): number | undefined {
    const ino = this.#stat()?.ino;
    if (this.#fd !== undefined && ino === this.#ino) return this.#fd;
    this.close();
    this.table.clear();
    this.#offset = 0;
    this.exists = false;
    this.torn = false;
    if (ino === undefined && !create) return undefined;
    const fd = (ino === undefined ? this.#create() : undefined) ?? this.#openExisting(create);
    if (fd === undefined) return undefined;
    this.#fd = fd;
    this.#ino = fstatSync(fd).ino;
    this.generation++;
    this.exists = true;
    return this.#fd;
  }

  /** Creates the file, for this user alone; undefined if another process was faster. */
  #create(): number | undefined {
    try {
      return openSync(this.path, "ax+", fileMode);
    } catch (error) {
      if (codeOf(error) === "EEXIST") return undefined;
      throw this.#failure("cannot open", error);
    }
  }

  #openExisting(create: boolean): number | undefined {
    let fd: number;
    if (!this.#anyOwner) requireOwnLink(this.path);
    try {
      fd = openSync(this.path, create ? "a+" : "r+", fileMode);
    } catch (error) {
      if (!create && codeOf(error) === "ENOENT") return undefined;
      throw this.#failure("cannot open", error);
    }
    try {
      const found = fstatSync(fd);
      if (!this.#anyOwner) requireOwnFile(this.path, found);
      if (!found.isFile()) throw this.#foreign();
      return fd;
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  #replay(fd: number, repair: boolean): void {
    const size = this.#stat()?.size ?? 0;
    if (size < this.#offset) {
      this.table.clear();
      this.#offset = 0;
    }
    let wanted = chunkBytes;
    while (this.#offset < size) {
      const chunk = Buffer.allocUnsafe(Math.min(wanted, size - this.#offset));
      const length = readSync(fd, chunk, 0, chunk.length, this.#offset);
      const { consumed, foreign } = decodeRecords(chunk.subarray(0, length), (record) => this.#apply(record));
      this.#offset += consumed;
      if (foreign || (this.#offset === 0 && !beginsStore(chunk))) throw this.#foreign();
      if (consumed > 0) continue;
      if (length < size - this.#offset && length > 0) wanted *= 2;
      else break;
    }
    this.torn = this.#offset < size;
    if (!this.torn || !repair) return;
    ftruncateSync(fd, this.#offset);
    this.torn = false;
  }

  #apply({ key, value }: StoreRecord): void {
    if (key.startsWith(deletePrefix)) this.table.delete(key.slice(deletePrefix.length));
    else if (key.startsWith(pushPrefix)) this.table.queuePush(key.slice(pushPrefix.length), value);
    else if (key.startsWith(popPrefix)) this.table.queuePop(key.slice(popPrefix.length));
    else this.table.set(key, value);
  }

  #foreign(): DistStoreError {
    const what =
      this.#offset === 0
        ? "is not the file of a FileStore. Choose another path"
        : `has no valid record at byte ${this.#offset}: a process died while it wrote, and another one wrote after it. Remove the file and restart the job`;
    return new DistStoreError(`FileStore: ${this.path} ${what}.`, { code: "STORE_CORRUPT" });
  }

  #failure(what: string, cause: unknown): DistStoreError {
    const shortage = shortageOf(cause);
    const reason = shortage?.text ?? messageOf(cause);
    const code = shortage?.code ?? "STORE_IO";
    return new DistStoreError(`FileStore: ${what} ${this.path}: ${reason}`, { code, cause });
  }
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}

/** Whether a file without a complete record can be that of a store whose first record is incomplete. */
function beginsStore(bytes: Buffer): boolean {
  return firstRecord.subarray(0, bytes.length).equals(bytes);
}
