import { readFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "../code-folder.ts";

export const page = readFileSync(join(root, "docs/backends.md"), "utf8");

/** The TypeScript of the page that has this text. */
function block(text: string): string {
  const blocks = [...page.matchAll(/^```ts\n([\s\S]*?)^```/gm)].map(([, code = ""]) => code);
  const found = blocks.filter((code) => code.includes(text));
  if (found.length !== 1) throw new Error(`${found.length} blocks of docs/backends.md have ${text}`);
  return String(found[0]);
}

export const files = Object.entries({
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
});
