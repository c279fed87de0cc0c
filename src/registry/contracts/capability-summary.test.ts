import { describe, expect, test } from "bun:test";
import { page, withCapabilityTables } from "../../../scripts/generate-capability-table.ts";
import { operations } from "../../collectives/op-table.ts";
import { reduceOpCodes } from "../../collectives/reduce-op.ts";
import { dtypeNames } from "../../tensor/index.ts";
import { builtInBackends } from "../built-in-backends.ts";
import { dtypesText, summarize } from "./capability-summary.ts";

describe("summarize", () => {
  test("groups equal rows, and names what is missing", () => {
    const summary = summarize({
      ops: { broadcast: ["int8", "float32"], allReduce: ["float32", "int8"], reduce: ["float32"], barrier: [] },
      reduceOps: { float32: ["SUM", "AVG"], int8: ["SUM"], int32: ["SUM"], bool: [] },
      anySource: true,
    });
    expect(summary.ops).toEqual([
      { ops: ["allReduce", "broadcast"], dtypes: ["float32", "int8"] },
      { ops: ["reduce"], dtypes: ["float32"] },
      { ops: ["barrier"], dtypes: [] },
    ]);
    expect(summary.reduceOps).toEqual([
      { dtypes: ["int8", "int32"], reduceOps: ["SUM"] },
      { dtypes: ["float32"], reduceOps: ["SUM", "AVG"] },
    ]);
    expect(summary.made).toEqual([{ op: "allReduceCoalesced", of: "allReduce" }]);
    expect(summary.missing).toEqual(
      operations.filter((op) => !["allReduce", "allReduceCoalesced", "broadcast", "reduce", "barrier"].includes(op)),
    );
    expect(summary.features).toEqual({
      anySource: true,
      sequenceNumbers: false,
      abort: false,
    });
  });

  test("loses nothing of the built-in tables", async () => {
    for (const { load } of builtInBackends) {
      const { capabilities } = await load();
      const summary = summarize(capabilities);
      const ops = summary.ops.flatMap((group) => group.ops.map((op) => [op, new Set(group.dtypes)] as const));
      expect(new Map(ops)).toEqual(
        new Map(operations.flatMap((op) => (capabilities.ops[op] ? [[op, new Set(capabilities.ops[op])]] : []))),
      );
      for (const { dtypes, reduceOps } of summary.reduceOps) {
        for (const dtype of dtypes)
          expect([...(capabilities.reduceOps[dtype] ?? [])].sort()).toEqual([...reduceOps].sort());
      }
    }
  });
});

test("dtypesText", () => {
  expect(dtypesText(dtypeNames)).toBe("every dtype");
  expect(dtypesText(dtypeNames.filter((name) => name !== "bool"))).toBe("every dtype but bool");
  expect(dtypesText(["float32", "int8"])).toBe("float32 int8");
  expect(dtypesText([])).toBe("no tensors");
});

describe("docs/backends.md", () => {
  test("has the current tables of the built-in backends (bun scripts/generate-capability-table.ts)", async () => {
    const text = await Bun.file(page).text();
    expect(text).toBe(await withCapabilityTables(text));
    for (const name of [...operations.map((op) => `\`${op}\``), ...dtypeNames])
      expect(text).toContain(`\n| ${name} | `);
    for (const name of Object.keys(reduceOpCodes)) expect(text, `no backend has ${name}`).toContain(name);
  });
});
