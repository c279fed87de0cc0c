/**
 * A record of PyTorch's FileStore: u32 key length, key, u32 value length, value. Lengths are in the host's byte order,
 * as upstream writes them, and Bun runs on little-endian hosts only.
 */
export interface StoreRecord {
  readonly key: string;
  readonly value: Uint8Array;
}

/** The prefix of users' keys, so that they do not collide with the store's own. */
export const userPrefix = "/";
/** The prefix of the key in a record that removes it. */
export const deletePrefix = "-";
/** Counts the open handles. */
export const refcountKey = "refcount/";
/** Counts the handles that were closed. */
export const cleanupKey = "cleanup/";
/** Ours: an element that is added to or removed from the queue whose name follows. To PyTorch these are plain keys. */
export const pushPrefix = "queue/push/";
export const popPrefix = "queue/pop/";

const keyStarts = [userPrefix, deletePrefix, refcountKey, cleanupKey, pushPrefix, popPrefix].map((start) =>
  Buffer.from(start),
);
const longest = 0xffff_ffff;

/** Encodes records, one after the other. */
export function encodeRecords(records: readonly StoreRecord[]): Uint8Array {
  const parts: Uint8Array[] = [];
  for (const { key, value } of records) {
    const keyBytes = Buffer.from(key);
    if (keyBytes.length > longest || value.length > longest) throw new RangeError("longer than 4 GiB");
    parts.push(lengthBytes(keyBytes), keyBytes, lengthBytes(value), value);
  }
  return Buffer.concat(parts);
}

function lengthBytes(bytes: Uint8Array): Uint8Array {
  const length = Buffer.allocUnsafe(4);
  length.writeUInt32LE(bytes.length);
  return length;
}

/** What {@link decodeRecords} found. */
export interface Decoded {
  /** Number of bytes of the complete records. */
  readonly consumed: number;
  /** Whether what follows cannot be a record of a store. */
  readonly foreign: boolean;
}

/** Visits the complete records at the start of `bytes`; their values are copies. */
export function decodeRecords(bytes: Buffer, visit: (record: StoreRecord) => void): Decoded {
  let consumed = 0;
  while (bytes.length - consumed >= 4) {
    const keyStart = consumed + 4;
    const keyEnd = keyStart + bytes.readUInt32LE(consumed);
    const key = bytes.subarray(keyStart, Math.min(keyEnd, bytes.length));
    if (!isStoreKey(key, keyEnd - keyStart)) return { consumed, foreign: true };
    if (keyEnd + 4 > bytes.length) break;
    const valueEnd = keyEnd + 4 + bytes.readUInt32LE(keyEnd);
    if (valueEnd > bytes.length) break;
    visit({ key: key.toString(), value: new Uint8Array(bytes.subarray(keyEnd + 4, valueEnd)) });
    consumed = valueEnd;
  }
  return { consumed, foreign: false };
}

/** Whether a key of `length` bytes, of which `seen` are known, can be one that a store writes. */
function isStoreKey(seen: Buffer, length: number): boolean {
  return keyStarts.some((start) => {
    const common = Math.min(start.length, seen.length);
    return length >= start.length && seen.subarray(0, common).equals(start.subarray(0, common));
  });
}
