import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { DistError } from "../../errors/index.ts";
import { pickle } from "../../pickle/index.ts";
import { type Dict, dump, entry, json, source, text } from "../fixtures/torch-dump.ts";
import { readDump } from "./dump-reader.ts";

function refusal(bytes: Uint8Array, file = source.file): string {
  try {
    readDump(bytes, { ...source, file });
  } catch (error) {
    expect(error).toBeInstanceOf(DistError);
    expect(["INVALID_DUMP", "INVALID_PICKLE"]).toContain((error as DistError).code);
    return (error as Error).message;
  }
  throw new Error("it was read");
}

describe("what is no dump is refused", () => {
  const withEntry = (change: Dict): Uint8Array => pickle({ ...dump, entries: [{ ...entry, ...change }] });
  test.each([
    ["an empty file", pickle(dump).subarray(0, 0), "it is empty"],
    ["spaces", text("\n  "), "it is empty"],
    ["a list", pickle([]), "the whole of it must be a dict, got an empty list"],
    ["a list in JSON", json([1]), "the whole of it must be a dict, got a list of 1"],
    ["a string in JSON", json("dump"), 'the whole of it must be a dict, got "dump"'],
    ["JSON without its beginning", json(dump).subarray(1), "it is broken JSON: "],
    ["an answer of a server", text("Handler x failed"), 'is it a pickle at all? (it begins with "Handler x failed")'],
    ["a pickle with code", text("cos\nsystem\n(S'true'\ntR."), "it is more than plain data: GLOBAL"],
    [
      "an entry that is empty",
      pickle({ ...dump, entries: [null] }),
      "entries[0] is empty (null or None); it must be a dict",
    ],
    ["half of it", pickle(dump).subarray(0, 200), "cut off"],
    ["half of its JSON", json(dump).subarray(0, 200), "it is broken JSON: "],
    ["no version", pickle({}), "version is missing"],
    ["another version", pickle({ ...dump, version: "3.0" }), 'its format is "3.0"'],
    ["entries that are none", pickle({ ...dump, entries: 7 }), "entries must be a list, got 7"],
    ["an entry that is none", pickle({ ...dump, entries: ["x"] }), 'entries[0] must be a dict, got "x"'],
    ["a name that is none", withEntry({ profiling_name: 5 }), "entries[0].profiling_name must be a string"],
    [
      "a number that is none",
      withEntry({ collective_seq_id: "1" }),
      'entries[0].collective_seq_id must be an integer, got "1"',
    ],
    ["a fraction", withEntry({ record_id: 0.5 }), "entries[0].record_id must be an integer, got 0.5"],
    ["a state", withEntry({ state: "lost" }), "must be scheduled, started or completed"],
    ["sizes", withEntry({ input_sizes: [4] }), "entries[0].input_sizes[0] must be a list"],
    ["dtypes", withEntry({ input_dtypes: [4] }), "entries[0].input_dtypes[0] must be a string, got 4"],
    ["frames", withEntry({ frames: [{}] }), "entries[0].frames[0].filename is missing"],
    ["a time", withEntry({ time_created_ns: -5 }), "entries[0].time_created_ns is no time"],
    ["a group", withEntry({ process_group: [1, 2] }), "entries[0].process_group must be the name of a group"],
    ["ranks", pickle({ ...dump, pg_config: { "0": { ranks: "__import__('os')" } } }), "must be a list of ranks"],
    ["a rank", pickle({ ...dump, bun_c10d: { rank: -2 } }), "its rank is -2"],
    ["no name of an op", withEntry({ profiling_name: "" }), "entries[0].profiling_name names no op"],
    [
      "a newline",
      withEntry({ state: "a\nb" }),
      'entries[0].state must be scheduled, started or completed, got "a\\nb"',
    ],
    ["a negative number", withEntry({ collective_seq_id: -1 }), "must be an integer of at least 0, got -1"],
    ["a negative size", withEntry({ input_sizes: [[-4]] }), "must be an integer of at least 0, got -4"],
    ["a time-out", withEntry({ timeout_ms: "30" }), 'entries[0].timeout_ms must be a number, got "30"'],
    ["a duration", withEntry({ duration_ms: {} }), "entries[0].duration_ms must be a number, got a dict"],
    ["a flag", withEntry({ retired: "yes" }), 'entries[0].retired must be true or false, got "yes"'],
    [
      "a negative rank",
      pickle({ ...dump, pg_config: { "0": { ranks: [-1] } } }),
      "pg_config.0.ranks[0] must be an integer of at least 0",
    ],
    [
      "too large a rank",
      pickle({ ...dump, pg_config: { "0": { ranks: "[9999999]" } } }),
      "pg_config.0.ranks[0] is 9999999",
    ],
    [
      "a number of lost ops",
      pickle({ ...dump, bun_c10d: { rank: 1, dropped: -4 } }),
      "bun_c10d.dropped must be an integer of at least 0",
    ],
    [
      "a status",
      pickle({ ...dump, entries: [], pg_status: { "0": { last_enqueued_collective: "x" } } }),
      'last_enqueued_collective must be an integer, got "x"',
    ],
  ])("%s", (_, bytes, reason) => {
    expect(refusal(bytes)).toContain(reason);
  });

  test("JSON that would take a multiple of its size as memory", () => {
    expect(refusal(new Uint8Array(50_000_000).fill(0x5b))).toBe("its data has more than 64 levels");
    expect(refusal(text(`[${"0,".repeat(10_000_000)}0]`))).toBe("it has more than 10000000 values");
    const strings = ['"[[,', '\\"', "[".repeat(100), '\\\\"'].join("");
    expect(readDump(json({ ...dump, note: "[{,".repeat(50), more: JSON.parse(strings) }), source).ops).toHaveLength(1);
    expect(refusal(text(`{"a": ${strings}, "b": ${"[".repeat(64)}`))).toBe("its data has more than 64 levels");
    expect(refusal(text('{"a": "\\'))).toStartWith("it is broken JSON: ");
  });

  test("JSON that is broken, by the name of its file", () => {
    for (const bytes of [json(dump).subarray(1), text("<html>"), text("null x")]) {
      expect(refusal(bytes, "/dumps/rank_1.json")).toStartWith("it is broken JSON: ");
    }
    expect(readDump(pickle(dump), { ...source, file: "/dumps/rank_1.json" }).ops).toHaveLength(1);
    expect(readDump(text(`\ufeff${new TextDecoder().decode(json(dump))}`), source).ops).toHaveLength(1);
  });

  test("a file without a rank in its name", () => {
    expect(refusal(pickle(dump), "/dumps/trace.json")).toContain("does not end with a rank");
  });

  test("whatever is changed in one, it is read or refused", () => {
    const sound = json(dump);
    const change = fc.tuple(fc.nat(sound.length - 1), fc.integer({ min: 0x20, max: 0x7e }));
    const property = fc.property(fc.array(change, { minLength: 1, maxLength: 4 }), (changes) => {
      const bytes = sound.slice();
      for (const [at, value] of changes) bytes[at] = value;
      try {
        readDump(bytes, source);
      } catch (error) {
        expect(error).toBeInstanceOf(DistError);
      }
    });
    fc.assert(property, { numRuns: 3000 });
    const anything = fc.property(
      fc.object({ key: fc.constantFrom(...Object.keys(dump), ...Object.keys(entry), "bun_c10d") }),
      (value) => {
        try {
          readDump(json({ ...dump, ...value }), source);
        } catch (error) {
          expect(error).toBeInstanceOf(DistError);
        }
      },
    );
    fc.assert(anything, { numRuns: 3000 });
  });
});
