import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { CLOSE_LIMIT_MS } from "../../src/process-group/pipeline/close-within.ts";
import { checkOptions } from "../../src/registry/backend-options.ts";
import { BackendRegistry, GRACE_MS } from "../../src/registry/index.ts";
import { CodeFolder, root } from "./code-folder.ts";

setDefaultTimeout(60_000);

const page = readFileSync(join(root, "docs/backends.md"), "utf8");

/** The TypeScript of the page that has this text. */
function block(text: string): string {
  const blocks = [...page.matchAll(/^```ts\n([\s\S]*?)^```/gm)].map(([, code = ""]) => code);
  const found = blocks.filter((code) => code.includes(text));
  if (found.length !== 1) throw new Error(`${found.length} blocks of docs/backends.md have ${text}`);
  return String(found[0]);
}

const files = {
  "plugin.ts": block("create: (context) =>"),
  "options-schema.ts": block("Schema.Struct"),
  "types.ts": block("declare module"),
  "logger.ts": block("LOGGER"),
  "use.ts": `
    import { initProcessGroup } from "bun-c10d";
    import "./types.ts";
    export const start = () => initProcessGroup({ backend: "ring", options: { chunk: 4096 } });
    // @ts-expect-error: no such option
    export const wrong = () => initProcessGroup({ backend: "ring", options: { chunks: 4096 } });
  `,
  "ring-backend.ts": `
    import { type BackendContext, MethodBackend } from "bun-c10d";
    export interface RingOptions { readonly chunk?: number }
    export class RingBackend extends MethodBackend {
      override readonly name = "ring";
      override readonly capabilities = { ops: {}, reduceOps: {} };
      static connect({ rank, size, options }: BackendContext<RingOptions>): Promise<RingBackend> {
        void options.chunk;
        return Promise.resolve(new RingBackend(rank, size));
      }
    }
  `,
  "node_modules/pino/index.d.ts":
    "export default function pino(): Record<'debug' | 'info' | 'warn' | 'error', (message: string) => void>;",
};
const folder = new CodeFolder("backends", Object.entries(files));
afterAll(() => folder[Symbol.dispose]());

test("the code of docs/backends.md compiles", async () => {
  expect(await folder.compileErrors()).toEqual([]);
});

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
