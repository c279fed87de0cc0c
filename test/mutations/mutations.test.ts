import { describe, expect, setDefaultTimeout, test } from "bun:test";
import type { BackendPlugin, OpName } from "bun-c10d";
import fake from "../../src/backends/fake/plugin.ts";
import { type Operation, opTable } from "../../src/collectives/index.ts";
import { suiteCases } from "../../src/testing/backend-suite/cases/cases.ts";
import { type CaseResult, runSuite } from "../../src/testing/backend-suite/run-suite.ts";
import { inapplicable } from "../../src/testing/backend-suite/suite-case.ts";
import { Mutant, type Mutation, spoilingInputs } from "./mutant.ts";
import { mutations } from "./mutations.ts";

setDefaultTimeout(60_000);

const worldSize = 2;
const waitCannotBlock = "the ranks share a thread";
const cases = suiteCases
  .filter((each) => inapplicable(each, { capabilities: fake.capabilities, worldSize, waitCannotBlock }) === undefined)
  .map(({ name }) => name);

const full = process.env.C10D_SWEEP === "full";
if (!full) console.log("sample: mutations: each with the cases that are to catch it");

/** Those of the cases that fail with the mutated fake backend; by default all cases of the plain setting run. */
async function failuresWith(mutate: Mutation, names: readonly string[] = cases): Promise<CaseResult[]> {
  const plugin: BackendPlugin = { ...fake, create: async (context) => mutate(await fake.create(context), context) };
  const sweep = { full, sizes: [0, 1, 7], large: 301, seed: 1 };
  const run = (some: readonly string[], ranks: number): Promise<CaseResult[]> =>
    runSuite({ plugin, worldSize: ranks, order: { cases: some, sweep, canBlock: false, options: {} }, spawn: false });
  const [plain, inSetting] = [
    names.filter((name) => cases.includes(name)),
    names.filter((name) => !cases.includes(name)),
  ];
  const results = await run(plain, worldSize);
  // A sub-group of two ranks needs a world of three.
  if (inSetting.length > 0) results.push(...(await run(inSetting, worldSize + 1)));
  return results.filter(({ failures }) => failures.length > 0);
}

/** The table of docs/testing.md: the case that catches each mutation. */
async function documented(): Promise<Map<string, string>> {
  const text = await Bun.file(new URL("../../docs/testing.md", import.meta.url)).text();
  const table = text.slice(text.indexOf("| deliberate bug |")).split("\n\n")[0] ?? "";
  const rows = table.trimEnd().split("\n").slice(2);
  return new Map(
    rows.map((row) => {
      const [, mutation = "", name = ""] = row.split("|").map((cell) => cell.trim().replaceAll("`", ""));
      return [mutation, name];
    }),
  );
}

describe("the conformance suite", () => {
  test("passes without a mutation", async () => {
    expect(await failuresWith((inner) => new Mutant(inner))).toEqual([]);
  });

  test.each(Object.entries(mutations))("finds that %s", async (name, mutation) => {
    const caughtBy = (await documented()).get(name) ?? "a case that docs/testing.md names";
    const failures = await failuresWith(mutation, full ? [...new Set([...cases, caughtBy])] : [caughtBy]);
    const names = failures.map((each) => each.name);
    console.log(`mutation: ${name}: caught by ${names.map((each) => `"${each}"`).join(", ") || "nothing"}`);
    expect(names).toContain(caughtBy);
  });

  // A sparse tensor is sent by calls of other ops.
  const reading = Object.entries(opTable)
    .filter(([op, { inputs, inPlace }]) => inputs !== "none" && !inPlace && op !== "allReduceSparse")
    .map(([op]) => op as OpName);
  test.each(reading)("finds that %s writes to its inputs", async (op) => {
    // Lists of tensors are cases of the op that takes one.
    const reads = (each: Operation) => each === op || each === op.replace(/Coalesced$/, "");
    const ofOp = suiteCases.filter(({ name, ops }) => cases.includes(name) && ops?.some(reads)).map(({ name }) => name);
    const failures = await failuresWith(spoilingInputs(op), full ? cases : ofOp);
    expect(failures.flatMap((each) => each.failures).join("\n")).toMatch(
      /, input( \d)?: element 0 of \d+ is 0, expected /,
    );
  });

  test("has every mutation in its documentation, and no other", async () => {
    expect([...(await documented()).keys()].sort()).toEqual(Object.keys(mutations).sort());
  });
});
