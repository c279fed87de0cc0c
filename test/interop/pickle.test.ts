import { expect, test } from "bun:test";
import fc from "fast-check";
import {
  PickleFloat,
  PickleTuple,
  type PickleValue,
  pickle,
  type UnpickledValue,
  unpickle,
} from "../../src/pickle/index.ts";
import { describeWithTorch, fixture } from "./torch.ts";

/** What the fixture prints of a value. */
function described(value: PickleValue): unknown {
  if (value === null || typeof value === "boolean" || typeof value === "string") return value;
  if (typeof value === "bigint" || Number.isInteger(value)) return ["int", BigInt(value as number).toString()];
  if (typeof value === "number") return described(new PickleFloat(value));
  if (value instanceof PickleFloat) {
    const bytes = Buffer.alloc(8);
    bytes.writeDoubleBE(value.value);
    return ["float", bytes.toString("hex")];
  }
  if (value instanceof PickleTuple) return ["tuple", value.items.map(described)];
  if (Array.isArray(value)) return ["list", value.map(described)];
  return [
    "dict",
    [...(value as ReadonlyMap<string, PickleValue>)].map(([key, item]) => [described(key), described(item)]),
  ];
}

/** What is read of it. */
function expected(value: PickleValue): UnpickledValue {
  if (value instanceof PickleFloat) return value.value;
  if (value instanceof PickleTuple) return value.items.map(expected);
  if (Array.isArray(value)) return value.map(expected);
  if (value instanceof Map) return new Map([...value].map(([key, item]) => [plain(key), expected(item)]));
  return plain(value as number);
}

function plain<T>(value: T): T | number | bigint {
  if (typeof value === "bigint" && Number.isSafeInteger(Number(value))) return Number(value);
  if (typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value)) return BigInt(value);
  return Object.is(value, -0) ? 0 : value;
}

const text = fc.string({ unit: "binary" });
const integer = fc.oneof(fc.integer(), fc.maxSafeInteger(), fc.bigInt({ min: -(1n << 300n), max: 1n << 300n }));
const { value: values } = fc.letrec<{ value: PickleValue }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    fc.constantFrom(null, true, false),
    integer,
    fc.double(),
    fc.double({ noNaN: false }).map((number) => new PickleFloat(number)),
    text,
    fc.array(tie("value"), { maxLength: 5 }),
    fc.array(tie("value"), { maxLength: 5 }).map((items) => new PickleTuple(items)),
    fc.array(fc.tuple(fc.oneof(text, fc.integer()), tie("value")), { maxLength: 5 }).map((pairs) => new Map(pairs)),
  ),
}));

describeWithTorch("Python's pickle", (python) => {
  test("reads what we write, and we read what it writes in every protocol", async () => {
    const samples = fc.sample(values, 400);
    // Strings as long as their escapes and lengths have forms for.
    samples.push(
      "x".repeat(255),
      "x".repeat(256),
      "\\u0041\\\r\x1a".repeat(20_000),
      Array.from({ length: 3000 }, (_, i) => i),
    );
    const input = samples.map((sample) => `${Buffer.from(pickle(sample)).toString("hex")}\n`).join("");
    const child = Bun.spawn([python, fixture("pickle_peer.py")], {
      stdin: new Blob([input]),
      stdout: "pipe",
      stderr: "inherit",
    });
    const lines = (await new Response(child.stdout).text()).trim().split("\n");
    expect(await child.exited).toBe(0);
    expect(lines).toHaveLength(samples.length);
    for (const [i, sample] of samples.entries()) {
      const [read, pickles, pickledWithBytes] = JSON.parse(lines[i] ?? "") as [unknown, string[], string[]];
      expect(read).toEqual(described(sample));
      const value = expected(sample);
      for (const hex of pickles) expect(unpickle(Buffer.from(hex, "hex"))).toEqual(value);
      const bytes = Uint8Array.from({ length: 400 }, (_, at) => (at % 2) * 0xff);
      const shared = [value, value, new Map([["again", value]])];
      for (const hex of pickledWithBytes) {
        expect(unpickle(Buffer.from(hex, "hex"))).toEqual([new Uint8Array(0), bytes, shared] as UnpickledValue);
      }
    }
  });
});
