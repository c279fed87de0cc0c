import { readFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "../code-folder.ts";

export const page = readFileSync(join(root, "docs/control.md"), "utf8");
export const files = [...page.matchAll(/^```ts (\S+)\n([\s\S]*?)^```/gm)].map(
  ([, name = "", code = ""]) => [name, code] as const,
);
