import { InvalidArgumentError } from "../../errors/index.ts";
import { checkKey, checkKeys } from "../arguments.ts";
import { type StoreValue, storeBytes } from "../store.ts";
import { limits } from "./protocol.ts";

/** @throws InvalidArgumentError for what the server would hang up on. */
export function checkWireKey(op: string, key: string): void {
  checkKey(op, key);
  // A character has at most three bytes, and "/" comes before the first.
  if (key.length * 3 >= limits.keyBytes && Buffer.byteLength(key) >= limits.keyBytes) {
    throw new InvalidArgumentError(
      `store ${op}: a key has at most ${limits.keyBytes - 1} bytes, this one has ${Buffer.byteLength(key)}`,
      { op, argument: "key" },
    );
  }
}

/** @throws InvalidArgumentError as {@link checkWireKey}. */
export function checkWireKeys(op: string, keys: readonly string[]): void {
  checkKeys(op, keys);
  if (keys.length > limits.keys) {
    throw new InvalidArgumentError(`store ${op}: at most ${limits.keys} keys at a time, got ${keys.length}`, {
      op,
      argument: "keys",
    });
  }
  for (const key of keys) checkWireKey(op, key);
}

/** @throws InvalidArgumentError as {@link checkWireKey}. */
export function checkWireValue(op: string, key: string, value: StoreValue): void {
  const isText = typeof value === "string";
  if (!isText && !(value instanceof Uint8Array)) storeBytes(value);
  // A character has at most three bytes.
  if (value.length * (isText ? 3 : 1) <= limits.valueBytes) return;
  const length = isText ? Buffer.byteLength(value) : value.length;
  if (length > limits.valueBytes) {
    throw new InvalidArgumentError(
      `store ${op}: a value has at most ${limits.valueBytes} bytes, that of key ${key} has ${length}. Split it over several keys.`,
      { op, argument: "value", keys: [key] },
    );
  }
}
