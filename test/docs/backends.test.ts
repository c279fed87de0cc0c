import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { CLOSE_LIMIT_MS } from "../../src/process-group/pipeline/limited-close.ts";
import { GRACE_MS } from "../../src/registry/index.ts";

const page = readFileSync(new URL("../../docs/backends.md", import.meta.url), "utf8");
const [, contract = ""] = page.split("### When something fails");
const [text = ""] = contract.split("### Calls");
/** A row of a table, by how it begins. */
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
