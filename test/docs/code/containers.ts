import { readFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "../code-folder.ts";

export const page = readFileSync(join(root, "docs/containers.md"), "utf8");
export const examples = new Map(
  Array.from(page.matchAll(/^```ts (\S+)\n([\s\S]*?)^```/gm), ([, name = "", code = ""]) => [name, code]),
);

const sources = ["sockets.ts", "mesh.ts"].map((name) => {
  return [name, readFileSync(join(root, "examples/custom-backend", name), "utf8")] as const;
});
export const files = [...examples, ...sources];
