import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { DistError, InvalidArgumentError } from "../errors/index.ts";
import { PickleFloat, PickleTuple, type PickleValue, pickle, type UnpickledValue, unpickle } from "./index.ts";

const latin1 = (text: string): Uint8Array => Uint8Array.from(text, (character) => character.charCodeAt(0));

function refusal(bytes: Uint8Array, limits = {}): string {
  try {
    unpickle(bytes, limits);
  } catch (error) {
    expect(error).toBeInstanceOf(DistError);
    expect((error as DistError).code).toBe("INVALID_PICKLE");
    return (error as Error).message;
  }
  throw new Error("it was read");
}

describe("what is written is read again", () => {
  const values: readonly (readonly [PickleValue, UnpickledValue])[] = [
    [null, null],
    [true, true],
    [false, false],
    [0, 0],
    [255, 255],
    [256, 256],
    [-1, -1],
    [2 ** 31 - 1, 2 ** 31 - 1],
    [-(2 ** 31), -(2 ** 31)],
    [2 ** 31, 2 ** 31],
    [1_800_000_000_000_000_000n, 1_800_000_000_000_000_000n],
    [1.8e18, 1_800_000_000_000_000_000n],
    [-(2n ** 63n), -(2n ** 63n)],
    [2n ** 63n, 2n ** 63n],
    [-128n, -128],
    [-129n, -129],
    [(1n << 2100n) - 1n, (1n << 2100n) - 1n],
    [-(1n << 2047n), -(1n << 2047n)],
    [0.5, 0.5],
    [new PickleFloat(2), 2],
    [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY],
    [Number.NaN, Number.NaN],
    ["", ""],
    ["\ufeffé😀\n\0", "\ufeffé😀\n\0"],
    [new PickleTuple([]), []],
    [new PickleTuple(["0", "default_pg"]), ["0", "default_pg"]],
    [[], []],
    [
      [[], {}],
      [[], new Map()],
    ],
    [{ a: 1, b: undefined, __proto__: null }, new Map([["a", 1]])],
    [
      new Map<number | string, PickleValue>([
        [1, "x"],
        ["1", ["x", "x"]],
      ]),
      new Map<number | string, UnpickledValue>([
        [1, "x"],
        ["1", ["x", "x"]],
      ]),
    ],
  ];

  test.each(values.map(([written, read], i) => [i, written, read] as const))("%p", (_, written, read) => {
    expect(unpickle(pickle(written))).toEqual(read);
  });

  test("with more strings than a byte can number", () => {
    const strings = Array.from({ length: 1000 }, (_, i) => `s${i % 500}`);
    const bytes = pickle(strings);
    expect(unpickle(bytes)).toEqual(strings);
    expect(bytes.length).toBeLessThan(500 * 16 + 500 * 5);
  });

  test("an entry of a flight recorder, byte for byte", () => {
    // As Python 3 writes it with protocol 2, but for the numbers of its memo.
    const bytes = pickle({ state: "completed", duration_ms: new PickleFloat(1), sizes: [[2, 300]] });
    const text = String.fromCharCode(...bytes);
    expect(text).toBe(
      "\x80\x02}(X\x05\0\0\0stateq\0X\x09\0\0\0completedq\x01X\x0b\0\0\0duration_msq\x02G\x3f\xf0\0\0\0\0\0\0" +
        "X\x05\0\0\0sizesq\x03](](K\x02J\x2c\x01\0\0eeu.",
    );
  });
});

describe("what is no plain data is not written", () => {
  const cycle: PickleValue[] = [];
  cycle.push(cycle);
  test.each([
    ["a function", () => 1],
    ["a Date", new Date()],
    ["undefined in a list", [undefined]],
    ["bytes", new Uint8Array(1)],
    ["a cycle", cycle],
  ])("%s", (_, value) => {
    expect(() => pickle(value as never)).toThrow(InvalidArgumentError);
  });
});

describe("what Python's pickles do besides plain data is refused", () => {
  test.each([
    ["REDUCE", "cos\nsystem\n(S'echo'\ntR.", "GLOBAL"],
    ["STACK_GLOBAL", "\x80\x04\x8c\x02os\x8c\x06system\x93.", "STACK_GLOBAL"],
    ["INST", "(ios\nsystem\n.", "INST"],
    ["OBJ", "(o.", "OBJ"],
    ["NEWOBJ", "\x80\x02)\x81.", "NEWOBJ"],
    ["BUILD", "\x80\x02}}b.", "BUILD"],
    ["persistent ids", "Pid\n.", "PERSID"],
    ["extensions", "\x80\x02\x82\x01.", "EXT1"],
    ["buffers outside", "\x80\x05\x97.", "NEXT_BUFFER"],
    ["sets", "\x80\x04\x8f.", "EMPTY_SET"],
    ["strings of Python 2", "U\x01a.", "SHORT_BINSTRING"],
  ])("%s", (_, text, opcode) => {
    expect(refusal(latin1(text))).toContain(`it is more than plain data: ${opcode} at byte`);
  });
});

describe("a broken pickle is refused", () => {
  test.each([
    ["nothing", "", "it is cut off"],
    ["JSON", '{"a":1}', "is it a pickle at all?"],
    ["a newer protocol", "\x80\x06N.", "of protocol 6"],
    ["no value", ".", "a value is missing"],
    ["values left over", "NN.", "left over"],
    ["a mark left over", "(N0N.", "a value is missing|left over"],
    ["bytes after its end", "N.N", "1 bytes follow its end"],
    ["a length past its end", "X\xff\xff\xff\x7fabc.", "2147483647 bytes should follow at byte 5, but 4 do"],
    ["a length of 2^63", "\x8d\0\0\0\0\0\0\0\x80a.", "bytes should follow"],
    ["a frame past its end", "\x95\xff\0\0\0\0\0\0\0N.", "a frame of 255 bytes has 2"],
    ["an integer of negative length", "\x8b\xff\xff\xff\xff.", "an integer of -1 bytes"],
    ["an integer of 2 GB", "\x8b\xff\xff\xff\x7f.", "an integer of 2147483647 bytes"],
    ["an unknown memo number", "h\x07.", "refers to value 7"],
    ["appending to a number", "K\x01N\x61.", "what is no list"],
    ["an odd dict", "}(Nu.", "a key without a value"],
    ["a dict as a key", "}}Ns.", "a key that is no string"],
    ["a pop below a mark", "N(\x85.", "a value is missing"],
    ["an endless line", "I12", "does not end"],
    ["no integer", "I0x1\n.", "is no integer"],
    ["no float", "Fabc\n.", "is no float"],
    ["a character that does not exist", "V\\U00110000\n.", "does not exist"],
  ])("%s", (_, text, reason) => {
    expect(refusal(latin1(text))).toMatch(new RegExp(reason.replace(/[?^]/g, "\\$&")));
  });
});

describe("limits", () => {
  test("of bytes, values and levels", () => {
    expect(refusal(pickle("abcdef"), { maxBytes: 8 })).toContain("more than the limit of 8");
    expect(refusal(pickle([1, 2, 3]), { maxValues: 3 })).toContain("more than 3 values");
    expect(unpickle(pickle([[[]]]), { maxDepth: 3 })).toEqual([[[]]]);
    expect(refusal(pickle([[[[]]]]), { maxDepth: 3 })).toContain("more than 3 levels");
    expect(() => unpickle(pickle(1), { maxBytes: -1 })).toThrow(InvalidArgumentError);
  });

  test("a million levels do not overflow the call stack", () => {
    expect(refusal(latin1(`${"]".repeat(1_000_000)}${"a".repeat(999_999)}.`))).toContain("levels");
    expect(refusal(latin1(`N${"\x85".repeat(1_000_000)}.`))).toContain("levels");
  });

  test("levels that a shared list adds count", () => {
    // A list of three levels, which a later list holds again below two more.
    const shared = "]q\x00]]aa0(h\x00]h\x00a";
    expect(unpickle(latin1(`${shared}l.`), { maxDepth: 5 })).toEqual([[[[]]], [[[[]]]]]);
    expect(refusal(latin1(`${shared}l.`), { maxDepth: 4 })).toContain("more than 4 levels");
  });

  test("references that multiply count each time", () => {
    let text = "]q\x00";
    for (let i = 1; i <= 60; i++)
      text += `0]q${String.fromCharCode(i)}(h${String.fromCharCode(i - 1)}h${String.fromCharCode(i - 1)}e`;
    expect(refusal(latin1(`${text}.`))).toContain("more than 10000000 values");
  });

  test("data that contains itself", () => {
    expect(refusal(latin1("]q\x00h\x00a."))).toContain("contains itself");
    expect(refusal(latin1("}q\x00]Kq\x01h\x00a0h\x00K\x01h\x01s."))).toBeString();
    expect(refusal(latin1("}q\x00K\x01]h\x00as."))).toContain("contains itself");
  });
});

describe("fuzzing", () => {
  test("random bytes and mutations are read or refused, never anything else", () => {
    const sound = pickle({ entries: [{ a: [1, 2.5, "x", -7, 1n << 70n], b: new PickleTuple(["0", null, true]) }] });
    const readOrRefused = (bytes: Uint8Array): void => {
      try {
        unpickle(bytes, { maxValues: 10_000 });
      } catch (error) {
        expect(error).toBeInstanceOf(DistError);
        expect((error as DistError).code).toBe("INVALID_PICKLE");
      }
    };
    fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), readOrRefused), { numRuns: 5_000 });
    const change = fc.tuple(fc.nat(sound.length - 1), fc.nat(255));
    const mutations = fc.property(fc.array(change, { maxLength: 6 }), fc.nat(sound.length), (changes, cut) => {
      const bytes = sound.slice();
      for (const [at, value] of changes) bytes[at] = value;
      readOrRefused(bytes);
      readOrRefused(bytes.subarray(0, cut));
    });
    fc.assert(mutations, { numRuns: 5_000 });
  });
});
