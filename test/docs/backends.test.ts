import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { CLOSE_LIMIT_MS } from "../../src/process-group/pipeline/close-within.ts";
import { checkOptions } from "../../src/registry/backend-options.ts";
import { BackendRegistry, GRACE_MS } from "../../src/registry/index.ts";
import { files, page } from "./code/backends.ts";
import { CodeFolder } from "./code-folder.ts";

setDefaultTimeout(60_000);

const folder = new CodeFolder("backends", files);
afterAll(() => folder[Symbol.dispose]());

test("its plugin registers, and its schema checks", async () => {
  const { default: plugin } = await import(join(folder.path, "plugin.ts"));
  const registry = new BackendRegistry();
  registry.register(plugin);
  expect((await registry.require("ring")).sdk).toBe(2);
  expect(await checkOptions(plugin, { chunk: 4096 })).toEqual({ chunk: 4096 });
  await expect(checkOptions(plugin, { chunk: 0 })).rejects.toThrow('backend "ring": option chunk: Expected');
  await expect(checkOptions(plugin, { chunks: 1 })).rejects.toThrow(
    'unknown option chunks (known are chunk); did you mean "chunk"?',
  );
});

test("the errors that it shows are those that come", async () => {
  const { default: gloo } = await import("../../src/backends/gloo/plugin.ts");
  for (const options of [{ threds: 4 }, { threads: 0 }]) {
    const error = await checkOptions(gloo, options).catch((reason: unknown) => reason);
    expect(page).toContain(String(error));
  }
});

const [, contract = ""] = page.split("### When something fails");
const [text = ""] = contract.split("### Calls");
/** The row of a table that begins with this text. */
const row = (begin: string): string => text.split("\n").find((line) => line.startsWith(`| ${begin}`)) ?? "";

describe("the failure contract on the page of backends", () => {
  test("has the limits that the process group keeps", () => {
    expect([GRACE_MS, CLOSE_LIMIT_MS]).toEqual([1_000, 10_000]);
    expect(row("`probe()`, `launched()`")).toContain("`CONNECT_TIMEOUT`, 1 s after its time-out");
    expect(row("an op |")).toContain("`OP_TIMEOUT` 1 s after its limit");
    expect(row("an op, 1 s after")).toContain("`ABORTED`");
    expect(row("`close()`")).toContain("given up after 10 s, with `DistTimeoutError` `CLOSE_TIMEOUT`");
    expect(row("`drained()`")).toContain("given up after 10 s, with `DistTimeoutError` `DRAIN_TIMEOUT`");
  });

  test("names each state and code once", () => {
    for (const state of ["OPEN", "FAILED", "CLOSED"]) expect(row(`${state} |`)).not.toBe("");
    const codes = ["OP_TIMEOUT", "PEER_LOST", "DESYNC", "ABORTED", "GROUP_FAILED", "GROUP_CLOSED"];
    const table = text.split("\n").filter((line) => /^\| `Dist\w+Error` `/.test(line));
    expect(table.map((line) => /`Dist\w+Error` `(\w+)`/.exec(line)?.[1])).toEqual(codes);
  });
});
