import { InvalidArgumentError } from "../../errors/index.ts";
import { checkKey, checkKeys } from "../arguments.ts";
import { type StoreValue, storeBytes } from "../store.ts";
import { limits, wireKey } from "./protocol.ts";

/**
 * The raw form of a key.
 * @throws InvalidArgumentError for what the server would hang up on.
 */
export function checkedKey(op: string, key: string): string {
  checkKey(op, key);
  const wire = wireKey(key);
  // A character has at most three bytes.
  if (wire.length * 3 > limits.keyBytes && Buffer.byteLength(wire) > limits.keyBytes) {
    throw new InvalidArgumentError(
      `store ${op}: a key has at most ${limits.keyBytes - 1} bytes, this one has ${Buffer.byteLength(key)}`,
      { op, argument: "key" },
    );
  }
  return wire;
}

/** The raw forms of keys; see {@link checkedKey}. */
export function checkedKeys(op: string, keys: readonly string[]): string[] {
  checkKeys(op, keys);
  if (keys.length > limits.keys) {
    throw new InvalidArgumentError(`store ${op}: at most ${limits.keys} keys at a time, got ${keys.length}`, {
      op,
      argument: "keys",
    });
  }
  return keys.map((key) => checkedKey(op, key));
}

/** The bytes of a value; see {@link checkedKey}. */
export function checkedValue(op: string, key: string, value: StoreValue): Uint8Array {
  const bytes = storeBytes(value);
  if (bytes.length > limits.valueBytes) {
    throw new InvalidArgumentError(
      `store ${op}: a value has at most ${limits.valueBytes} bytes, that of key ${key} has ${bytes.length}. Split it over several keys.`,
      { op, argument: "value", keys: [key] },
    );
  }
  return bytes;
}
