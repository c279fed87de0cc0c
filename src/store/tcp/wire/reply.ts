import { DistNetworkError } from "../../../errors/index.ts";
import type { InputBuffer } from "./input-buffer.ts";

/** A reply that is not complete yet. */
export const incomplete = Symbol("incomplete");

/** Reads one reply, over several calls if it arrives in pieces. */
export type ReplyReader<T> = (input: InputBuffer) => T | typeof incomplete;

/** No value in a reply of a store is larger. */
const maxReplyBytes = 2 ** 31;

export const readU8: ReplyReader<number> = (input) => (input.length < 1 ? incomplete : input.u8());
export const readU32: ReplyReader<number> = (input) => (input.length < 4 ? incomplete : input.u32());
export const readI64: ReplyReader<number | bigint> = (input) =>
  input.length < 8 ? incomplete : (input.safeI64() ?? input.i64());

/** A length and bytes. */
export const readBytes: ReplyReader<Uint8Array> = (input) => {
  if (input.length < 8) return incomplete;
  const length = input.peekU64();
  if (length > maxReplyBytes) throw badReply(`a value of ${length} bytes`);
  if (input.length < 8 + length) return incomplete;
  input.u64();
  return input.bytes(length);
};

/** `count` values, one after the other. */
export function manyReader(count: number): ReplyReader<Uint8Array[]> {
  const values: Uint8Array[] = [];
  return (input) => {
    while (values.length < count) {
      const value = readBytes(input);
      if (value === incomplete) return incomplete;
      values.push(value);
    }
    return values;
  };
}

/** One reply and then another that depends on it. */
export function thenReader<A, B>(first: ReplyReader<A>, next: (a: A) => ReplyReader<B>): ReplyReader<B> {
  let second: ReplyReader<B> | undefined;
  return (input) => {
    if (second === undefined) {
      const a = first(input);
      if (a === incomplete) return incomplete;
      second = next(a);
    }
    return second(input);
  };
}

/** A reader that needs no bytes. */
export function constantReader<T>(value: T): ReplyReader<T> {
  return () => value;
}

export function badReply(what: string): DistNetworkError {
  return new DistNetworkError(`the store server sent ${what}, which is not a reply of the TCPStore protocol`, {
    code: "PROTOCOL_VIOLATION",
  });
}
