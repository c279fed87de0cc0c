import { InvalidArgumentError } from "../../../errors/index.ts";
import { checkKey, checkKeys } from "../../arguments.ts";
import { checkStoreValue, ownBytes, type StoreValue } from "../../store-value.ts";
import { limits } from "./protocol.ts";

/** @throws InvalidArgumentError for a key on which the server would hang up. */
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

/**
 * A value in the form to write. It must be written before the call returns, since it belongs to the caller.
 * @throws InvalidArgumentError as {@link checkWireKey}.
 */
export function wireValue(op: string, key: string, value: StoreValue): StoreValue {
  const most = checkStoreValue(value);
  const length = most > limits.valueBytes && typeof value === "string" ? Buffer.byteLength(value) : most;
  if (length > limits.valueBytes) {
    throw new InvalidArgumentError(
      `store ${op}: a value has at most ${limits.valueBytes} bytes, that of key ${key} has ${length}. Split it over several keys.`,
      { op, argument: "value", keys: [key] },
    );
  }
  // What is written depends on the `length` property, which a subclass may override.
  return typeof value !== "string" && value.length !== length ? ownBytes(value) : value;
}
