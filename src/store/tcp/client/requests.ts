import { DistStoreError } from "../../../errors/index.ts";
import { counterOverflow, notACounter, safeIntegerRange } from "../../key-value-table.ts";
import type { StoreValue } from "../../store.ts";
import type { OutputBuffer } from "../wire/output-buffer.ts";
import { addFailure, checkReply, QueryType } from "../wire/protocol.ts";
import { constantReader, type ReplyReader, readBytes, readI64, readU8, thenReader } from "../wire/reply.ts";
import type { Request } from "./call.ts";

/** A request that writes a value under a key and has no reply. */
export class WriteRequest implements Request<void> {
  readonly op: string;
  readonly repeatable = false;
  readonly #type: WriteType;
  readonly #key: string;
  readonly #value: StoreValue;

  constructor(op: string, type: WriteType, key: string, value: StoreValue) {
    this.op = op;
    this.#type = type;
    this.#key = key;
    this.#value = value;
  }

  get keys(): readonly string[] {
    return [this.#key];
  }

  write(output: OutputBuffer): void {
    output.u8(this.#type);
    output.key(this.#key);
    output.value(this.#value);
  }
}

/** Requests that {@link WriteRequest} makes. */
export type WriteType = typeof QueryType.SET | typeof QueryType.APPEND | typeof QueryType.QUEUE_PUSH;

/** A request that has only a key. */
export class KeyRequest<T> implements Request<T> {
  readonly op: string;
  readonly repeatable: boolean;
  readonly reply: () => ReplyReader<T | PromiseLike<T>>;
  readonly #type: QueryType;
  readonly #key: string;

  constructor(
    op: string,
    type: QueryType,
    key: string,
    repeatable: boolean,
    reply: () => ReplyReader<T | PromiseLike<T>>,
  ) {
    this.op = op;
    this.repeatable = repeatable;
    this.reply = reply;
    this.#type = type;
    this.#key = key;
  }

  get keys(): readonly string[] {
    return [this.#key];
  }

  write(output: OutputBuffer): void {
    output.u8(this.#type);
    output.key(this.#key);
  }
}

/** A request that is only its type. */
export function plain<T>(op: string, type: QueryType, reply: () => ReplyReader<T>): Request<T> {
  return { op, keys: [], repeatable: true, write: (output) => output.u8(type), reply };
}

/** A CHECK of some keys. */
export function checking(op: string, keys: readonly string[]): Request<boolean> {
  const write = (output: OutputBuffer) => writeKeys(output, QueryType.CHECK, keys);
  return { op, keys, repeatable: true, write, reply: readinessReader };
}

/** A CHECK of a raw key. */
export function checkingRaw(op: string, rawKey: string): Request<boolean> {
  const write = (output: OutputBuffer) => {
    output.u8(QueryType.CHECK);
    output.u64(1);
    output.text(rawKey);
  };
  return { op, keys: [rawKey], repeatable: true, write, reply: readinessReader };
}

function readinessReader(): ReplyReader<boolean> {
  return thenReader(readU8, (byte) => constantReader(byte === checkReply.READY));
}

/** A GET of a raw key, whose value may be absent. */
export function getRaw<T>(op: string, rawKey: string, reader: ReplyReader<T>): Request<T> {
  const write = (output: OutputBuffer) => {
    output.u8(QueryType.GET);
    output.text(rawKey);
  };
  return { op, keys: [rawKey], repeatable: true, write, reply: () => reader };
}

/** An ADD to a counter. */
export class AddRequest implements Request<number> {
  readonly op = "add";
  readonly repeatable = false;
  readonly #key: string;
  readonly #amount: number;
  readonly #ownDialect: boolean;
  readonly #raw: boolean;

  /** `ownDialect` is whether the server is of this package; a `raw` key has no leading "/". */
  constructor(key: string, amount: number, ownDialect: boolean, raw = false) {
    this.#key = key;
    this.#amount = amount;
    this.#ownDialect = ownDialect;
    this.#raw = raw;
  }

  get keys(): readonly string[] {
    return [this.#key];
  }

  write(output: OutputBuffer): void {
    output.u8(QueryType.ADD);
    if (this.#raw) output.text(this.#key);
    else output.key(this.#key);
    output.i64(this.#amount);
  }

  reply(): ReplyReader<number | Promise<number>> {
    return (input) => {
      const sum = readI64(input);
      return typeof sum === "bigint" ? Promise.reject(this.#badSum(sum)) : sum;
    };
  }

  #badSum(sum: bigint): DistStoreError {
    const key = this.#key;
    if (this.#ownDialect && sum === addFailure.notACounter) return notACounter(key);
    if (this.#ownDialect && sum === addFailure.overflow) return counterOverflow(key, safeIntegerRange.name);
    return new DistStoreError(`store add: key ${key} is now ${sum}, which is more than a number holds exactly.`, {
      code: "COUNTER_OVERFLOW",
      op: "add",
      keys: [key],
    });
  }
}

/** A COMPARE_SET. */
export function comparing(key: string, expected: StoreValue, desired: StoreValue): Request<Uint8Array> {
  const write = (output: OutputBuffer) => {
    output.u8(QueryType.COMPARE_SET);
    output.key(key);
    output.value(expected);
    output.value(desired);
  };
  return { op: "compareSet", keys: [key], repeatable: false, write, reply: () => readBytes };
}

/** A MULTI_SET. */
export function settingAll(keys: readonly string[], values: readonly StoreValue[]): Request<void> {
  const write = (output: OutputBuffer) => {
    output.u8(QueryType.MULTI_SET);
    output.u64(keys.length);
    for (let i = 0; i < keys.length; i++) {
      output.key(keys[i] ?? "");
      output.value(values[i] ?? "");
    }
  };
  return { op: "multiSet", keys, repeatable: false, write };
}

/** A request with a list of keys. */
export function writeKeys(output: OutputBuffer, type: QueryType, keys: readonly string[]): void {
  output.u8(type);
  output.u64(keys.length);
  for (const key of keys) output.key(key);
}
