import { describeNumber, InvalidArgumentError } from "../errors/index.ts";
import { ByteReader } from "./byte-reader.ts";
import { Opcode, refusedOpcodes } from "./opcode.ts";
import { pickleError } from "./pickle-error.ts";
import { floatOfLine, integerOfLine, stringOfLine } from "./pickle-text.ts";
import type { PickleKey, UnpickledValue } from "./pickle-value.ts";
import { defaultLimits, isContainer, requireWithin, type UnpickleLimits } from "./unpickle-limits.ts";

const NEWEST_PROTOCOL = 5;
const MAX_INTEGER_BYTES = 1024;

/**
 * Reads a pickle of plain data: None, booleans, numbers, strings, bytes, lists, tuples and dicts, of protocols 0 to 5.
 * Nothing in it is called or imported: a pickle that asks for that is refused, whatever it names.
 * @throws DistError with code INVALID_PICKLE when it is broken, holds other data, exceeds a limit or contains itself.
 */
export function unpickle(bytes: Uint8Array, limits: UnpickleLimits = {}): UnpickledValue {
  const all = { ...defaultLimits, ...limits };
  for (const [name, limit] of Object.entries(all)) {
    if (Number.isSafeInteger(limit) && limit > 0) continue;
    const reason = `${name} must be a positive integer, but it is ${describeNumber(limit)}`;
    throw new InvalidArgumentError(reason, { argument: name });
  }
  if (bytes.length > all.maxBytes) {
    throw pickleError(`it has ${bytes.length} bytes, more than the limit of ${all.maxBytes}`);
  }
  return new PickleReader(bytes, all).read();
}

/** The stack machine that a pickle is a program of. It makes nothing but plain data. */
class PickleReader {
  readonly #in: ByteReader;
  readonly #limits: Required<UnpickleLimits>;
  readonly #stack: UnpickledValue[] = [];
  /** Heights of the stack at the marks that are open. */
  readonly #marks: number[] = [];
  readonly #memo = new Map<number, UnpickledValue>();
  /** Levels of those that have more than one. */
  readonly #levels = new Map<UnpickledValue, number>();
  #pushed = 0;
  /** Whether a list, tuple or dict may be in several places, or in itself. */
  #isShared = false;

  constructor(bytes: Uint8Array, limits: Required<UnpickleLimits>) {
    this.#in = new ByteReader(bytes);
    this.#limits = limits;
  }

  read(): UnpickledValue {
    for (;;) {
      const opcode = this.#in.uint8();
      if (opcode === Opcode.STOP) break;
      this.#step(opcode);
    }
    const value = this.#pop();
    if (this.#stack.length > 0 || this.#marks.length > 0) throw pickleError("values are left over at its end");
    if (this.#in.left > 0) throw pickleError(`${this.#in.left} bytes follow its end`);
    if (this.#isShared) requireWithin(value, this.#limits);
    return value;
  }

  #step(opcode: number): void {
    const value = this.#valueOf(opcode);
    if (value === undefined) this.#act(opcode);
    else this.#push(value);
  }

  /** What an opcode pushes, if it is one that does. */
  #valueOf(opcode: number): UnpickledValue | undefined {
    const input = this.#in;
    switch (opcode) {
      case Opcode.NONE:
        return null;
      case Opcode.BININT1:
        return input.uint8();
      case Opcode.BININT2:
        return input.uint16();
      case Opcode.BININT:
        return input.int32();
      case Opcode.NEWTRUE:
        return true;
      case Opcode.NEWFALSE:
        return false;
      case Opcode.INT:
      case Opcode.LONG: {
        const value = integerOfLine(input.line());
        return typeof value === "boolean" ? value : numberIfExact(value);
      }
      case Opcode.LONG1:
        return this.#integer(input.uint8());
      case Opcode.LONG4:
        return this.#integer(input.int32());
      case Opcode.FLOAT:
        return floatOfLine(input.line());
      case Opcode.BINFLOAT:
        return input.float64();
      case Opcode.UNICODE:
        return stringOfLine(input.line());
      case Opcode.SHORT_BINUNICODE:
        return input.utf8(input.uint8());
      case Opcode.BINUNICODE:
        return input.utf8(input.uint32());
      case Opcode.BINUNICODE8:
        return input.utf8(input.uint64());
      case Opcode.SHORT_BINBYTES:
        return input.bytes(input.uint8()).slice();
      case Opcode.BINBYTES:
        return input.bytes(input.uint32()).slice();
      case Opcode.BINBYTES8:
      case Opcode.BYTEARRAY8:
        return input.bytes(input.uint64()).slice();
      case Opcode.EMPTY_LIST:
      case Opcode.EMPTY_TUPLE:
        return [];
      case Opcode.LIST:
      case Opcode.TUPLE:
        return this.#listOf(this.#aboveMark());
      case Opcode.TUPLE1:
        return this.#listOf([this.#pop()]);
      case Opcode.TUPLE2: {
        const [last, first] = [this.#pop(), this.#pop()];
        return this.#listOf([first, last]);
      }
      case Opcode.TUPLE3: {
        const [last, middle, first] = [this.#pop(), this.#pop(), this.#pop()];
        return this.#listOf([first, middle, last]);
      }
      case Opcode.EMPTY_DICT:
        return new Map();
      case Opcode.DICT:
        return this.#setItems(new Map(), this.#aboveMark());
      case Opcode.DUP:
        return this.#shared(this.#top());
      case Opcode.GET:
        return this.#recall(memoNumber(input.line()));
      case Opcode.BINGET:
        return this.#recall(input.uint8());
      case Opcode.LONG_BINGET:
        return this.#recall(input.uint32());
      default:
        return undefined;
    }
  }

  /** Carries out an opcode that changes what is there. */
  #act(opcode: number): void {
    switch (opcode) {
      case Opcode.PROTO:
        requireProtocol(this.#in.uint8());
        break;
      case Opcode.FRAME:
        requireLeft(this.#in.uint64(), this.#in.left);
        break;
      case Opcode.MARK:
        this.#count();
        this.#marks.push(this.#stack.length);
        break;
      case Opcode.POP:
        if (this.#marks.at(-1) === this.#stack.length) this.#marks.pop();
        else this.#pop();
        break;
      case Opcode.POP_MARK:
        this.#aboveMark();
        break;
      case Opcode.APPEND:
        this.#append([this.#pop()]);
        break;
      case Opcode.APPENDS:
        this.#append(this.#aboveMark());
        break;
      case Opcode.SETITEM: {
        const [value, key] = [this.#pop(), this.#pop()];
        this.#setItems(this.#top(), [key, value]);
        break;
      }
      case Opcode.SETITEMS: {
        const pairs = this.#aboveMark();
        this.#setItems(this.#top(), pairs);
        break;
      }
      case Opcode.PUT:
        this.#remember(memoNumber(this.#in.line()));
        break;
      case Opcode.BINPUT:
        this.#remember(this.#in.uint8());
        break;
      case Opcode.LONG_BINPUT:
        this.#remember(this.#in.uint32());
        break;
      case Opcode.MEMOIZE:
        this.#remember(this.#memo.size);
        break;
      default:
        throw this.#refusal(opcode);
    }
  }

  #refusal(opcode: number): Error {
    const name = refusedOpcodes.get(opcode);
    const at = `at byte ${this.#in.position - 1}`;
    if (name === undefined) return pickleError(`0x${opcode.toString(16)} ${at} is no opcode; is it a pickle at all?`);
    return pickleError(`it is more than plain data: ${name} ${at}. Python code is never called or imported`);
  }

  #push(value: UnpickledValue): void {
    this.#count();
    this.#stack.push(value);
  }

  #count(): void {
    this.#pushed++;
    const { maxValues } = this.#limits;
    if (this.#pushed > maxValues) throw pickleError(`it has more than ${maxValues} values`);
  }

  #pop(): UnpickledValue {
    const value = this.#top();
    this.#stack.pop();
    return value;
  }

  #top(): UnpickledValue {
    const { length } = this.#stack;
    const value = this.#stack[length - 1];
    const isEmpty = this.#marks.length > 0 && length <= (this.#marks[this.#marks.length - 1] ?? 0);
    if (value === undefined || isEmpty) throw pickleError(`a value is missing at byte ${this.#in.position - 1}`);
    return value;
  }

  /** Removes the newest mark and what is above it. */
  #aboveMark(): UnpickledValue[] {
    const mark = this.#marks.pop();
    if (mark === undefined) throw pickleError(`a mark is missing at byte ${this.#in.position - 1}`);
    return this.#stack.splice(mark);
  }

  #append(values: readonly UnpickledValue[]): void {
    const list = this.#top();
    if (!Array.isArray(list)) throw pickleError(`values are appended to what is no list`);
    // One by one: as arguments of one call, too many would exceed the call stack.
    for (const value of values) list.push(value);
    this.#deepen(list, values);
  }

  #listOf(values: UnpickledValue[]): UnpickledValue[] {
    this.#deepen(values, values);
    return values;
  }

  #setItems(dict: UnpickledValue, pairs: readonly UnpickledValue[]): UnpickledValue {
    if (!(dict instanceof Map)) throw pickleError("items are set in what is no dict");
    if (pairs.length % 2 !== 0) throw pickleError("a dict has a key without a value");
    for (let i = 0; i < pairs.length; i += 2) dict.set(keyOf(pairs[i] ?? null), pairs[i + 1] ?? null);
    this.#deepen(dict, pairs);
    return dict;
  }

  /** Counts the levels of a list, tuple or dict that has got these parts, which nobody can change any more. */
  #deepen(container: UnpickledValue, parts: readonly UnpickledValue[]): void {
    let deepest = 0;
    for (const part of parts) {
      if (isContainer(part)) deepest = Math.max(deepest, this.#levels.get(part) ?? 1);
    }
    if (deepest === 0) return;
    const { maxDepth } = this.#limits;
    if (deepest >= maxDepth) throw pickleError(`its data has more than ${maxDepth} levels`);
    this.#levels.set(container, Math.max(this.#levels.get(container) ?? 1, deepest + 1));
  }

  /** A value that is referred to once more. */
  #shared(value: UnpickledValue): UnpickledValue {
    this.#isShared ||= isContainer(value);
    return value;
  }

  #remember(number: number): void {
    this.#memo.set(number, this.#top());
  }

  #recall(number: number): UnpickledValue {
    const value = this.#memo.get(number);
    if (value === undefined) throw pickleError(`it refers to value ${number}, which it does not define`);
    return this.#shared(value);
  }

  /** An integer in two's complement, little endian. */
  #integer(count: number): number | bigint {
    if (count < 0 || count > MAX_INTEGER_BYTES) throw pickleError(`it has an integer of ${count} bytes`);
    if (count === 0) return 0;
    if (count === BigInt64Array.BYTES_PER_ELEMENT) return numberIfExact(this.#in.int64());
    const digits = Buffer.from(this.#in.bytes(count)).reverse().toString("hex");
    return numberIfExact(BigInt.asIntN(count * 8, BigInt(`0x${digits}`)));
  }
}

function requireProtocol(protocol: number): void {
  if (protocol > NEWEST_PROTOCOL) {
    throw pickleError(`it is of protocol ${protocol}; the newest known one is ${NEWEST_PROTOCOL}`);
  }
}

function requireLeft(count: number, left: number): void {
  if (count > left) throw pickleError(`it is cut off: a frame of ${count} bytes has ${left}`);
}

function numberIfExact(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

function memoNumber(line: string): number {
  if (!/^\d{1,10}$/.test(line)) throw pickleError(`${JSON.stringify(line.slice(0, 80))} is no number of a value`);
  return Number(line);
}

function keyOf(value: UnpickledValue): PickleKey {
  if (typeof value === "object" && value !== null) {
    throw pickleError("a dict has a key that is no string, number, boolean or None");
  }
  return value;
}
