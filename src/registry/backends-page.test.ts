import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { checkOptions } from "./backend-options.ts";
import { BackendRegistry } from "./backend-registry.ts";

setDefaultTimeout(60_000);

const root = resolve(import.meta.dir, "../..");
const page = readFileSync(join(root, "docs/backends.md"), "utf8");
mkdirSync(join(root, "build"), { recursive: true });
const folder = mkdtempSync(join(root, "build/docs-")); // inside the package, where its own name resolves
afterAll(() => rmSync(folder, { recursive: true }));

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
  "tsconfig.json": JSON.stringify({ extends: join(root, "tsconfig.json"), include: ["*.ts"] }),
};
for (const [name, code] of Object.entries(files)) {
  mkdirSync(join(folder, name, ".."), { recursive: true });
  writeFileSync(join(folder, name), code);
}

test("the code of docs/backends.md compiles", () => {
  const { stdout, exitCode } = Bun.spawnSync({
    cmd: [process.execPath, join(root, "node_modules/typescript/bin/tsc"), "--noEmit", "-p", folder],
    cwd: folder,
    timeout: 50_000,
  });
  // Faults elsewhere in the package are found by the step that compiles it.
  const own = stdout
    .toString()
    .split("\n")
    .filter((line) => /^[^ .][^(]*\(\d+,\d+\): error/.test(line));
  expect(own).toEqual([]);
  if (exitCode !== 0) expect(stdout.toString()).toContain("src/");
});

test("its plugin registers, and its schema checks", async () => {
  const { default: plugin } = await import(join(folder, "plugin.ts"));
  const registry = new BackendRegistry();
  registry.register(plugin);
  expect((await registry.require("ring")).sdk).toBe(2);
  expect(await checkOptions(plugin, { chunk: 4096 })).toEqual({ chunk: 4096 });
  await expect(checkOptions(plugin, { chunk: 0 })).rejects.toThrow('backend "ring": option chunk: Expected');
  await expect(checkOptions(plugin, { chunks: 1 })).rejects.toThrow(
    'unknown option chunks (known are chunk); did you mean "chunk"?',
  );
});

test("the errors that it shows are those that are thrown", async () => {
  const { default: gloo } = await import("../backends/gloo/plugin.ts");
  for (const options of [{ threds: 4 }, { threads: 0 }]) {
    const error = await checkOptions(gloo, options).catch((reason: unknown) => reason);
    expect(page).toContain(String(error));
  }
});
