import { expect, test } from "bun:test";
import { KeyValueTable } from "./key-value-table.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const text = (value: Uint8Array | undefined) => new TextDecoder().decode(value);

test("a value that was read does not change while more is appended", () => {
  const table = new KeyValueTable();
  const seen: (Uint8Array | undefined)[] = [];
  const expected: string[] = [];
  for (let i = 0; i < 40; i++) {
    table.append("k", bytes(`${i},`));
    seen.push(table.get("k"));
    expected.push(`${expected.at(-1) ?? ""}${i},`);
  }
  expect(seen.map(text)).toEqual(expected);
});

test("append does not write to a value that was set, and a new value does not reuse an old one's buffer", () => {
  const table = new KeyValueTable();
  const whole = bytes("abcdef");
  table.set("k", whole.subarray(0, 3));
  table.append("k", bytes("X"));
  expect(text(whole)).toBe("abcdef");
  table.append("k", bytes("Y"));
  table.delete("k");
  table.append("k", bytes("Z"));
  expect(text(table.get("k"))).toBe("Z");
  table.set("k", bytes(""));
  table.append("k", bytes(""));
  expect(text(table.get("k"))).toBe("");
});

test("the time to append is proportional to what is appended", () => {
  const table = new KeyValueTable();
  const piece = new Uint8Array(100);
  const started = performance.now();
  // Copies of the whole value each time would be 500 GB.
  for (let i = 0; i < 100_000; i++) table.append("k", piece);
  expect(performance.now() - started).toBeLessThan(10_000);
  expect(table.get("k")?.length).toBe(10_000_000);
});
