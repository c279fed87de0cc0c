import { readFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "../code-folder.ts";

export const page = readFileSync(join(root, "docs/frameworks.md"), "utf8");
export const files = new Map(
  Array.from(page.matchAll(/^```ts (\S+)\n([\s\S]*?)^```/gm), ([, name = "", code = ""]) => [name, code]),
);
