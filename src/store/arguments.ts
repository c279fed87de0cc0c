import { describeNumber, InvalidArgumentError } from "../errors/index.ts";

/** @throws InvalidArgumentError unless every key is a string. */
export function checkKeys(op: string, keys: readonly string[]): void {
  if (!Array.isArray(keys)) {
    throw new InvalidArgumentError(`store ${op}: keys must be an array of strings`, { op, argument: "keys" });
  }
  for (const key of keys) checkKey(op, key);
}

/** @throws InvalidArgumentError unless `key` is a string that UTF-8 can encode. */
export function checkKey(op: string, key: string): void {
  if (typeof key === "string" && key.isWellFormed()) return;
  const fault = typeof key === "string" ? "must not contain a lone surrogate" : `must be a string, got ${typeof key}`;
  throw new InvalidArgumentError(`store ${op}: a key ${fault}`, { op, argument: "key" });
}

/** @throws InvalidArgumentError unless `amount` is a safe integer. */
export function checkAmount(key: string, amount: number): void {
  if (!Number.isSafeInteger(amount)) {
    throw new InvalidArgumentError(
      `store add: amount for key ${key} must be an integer within ±2^53, got ${describeNumber(amount)}`,
      {
        op: "add",
        argument: "amount",
        keys: [key],
      },
    );
  }
}

/** @throws InvalidArgumentError unless there is one value for each key. */
export function checkPairs(keys: readonly string[], values: readonly unknown[]): void {
  checkKeys("multiSet", keys);
  if (!Array.isArray(values) || keys.length !== values.length) {
    throw new InvalidArgumentError(
      `store multiSet: keys and values must be of the same length, got ${keys.length} and ${values?.length}`,
      { op: "multiSet", argument: "values" },
    );
  }
}

/** @throws InvalidArgumentError unless `worldSize` is a positive integer. */
export function checkWorldSize(op: string, worldSize: number): void {
  if (!Number.isSafeInteger(worldSize) || worldSize < 1) {
    throw new InvalidArgumentError(
      `store ${op}: world size must be a positive integer, got ${describeNumber(worldSize)}`,
      {
        op,
        argument: "worldSize",
      },
    );
  }
}

/** @throws InvalidArgumentError unless `port` is a port number. */
export function checkPort(port: number, name = "port"): void {
  if (!Number.isInteger(port) || port < 0 || port > 65_535) {
    throw new InvalidArgumentError(`${name} must have value from 0 to 65535 but was ${describeNumber(port)}.`, {
      argument: "port",
    });
  }
}

/**
 * For untyped callers that call the constructor as in PyTorch, with a host or a path.
 * @throws InvalidArgumentError that says how to create a store.
 */
export function checkMade(made: unknown, store: string, how: string): void {
  if (typeof made !== "object") throw new InvalidArgumentError(`a ${store} is created by \`await ${how}\`, not by new`);
}
