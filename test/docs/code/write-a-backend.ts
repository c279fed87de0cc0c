import { readFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "../code-folder.ts";

export const page = readFileSync(join(root, "docs/write-a-backend.md"), "utf8");
const [, card = ""] = /^```ts\n(\/\/ card-backend\.ts\n[\s\S]*?)^```/m.exec(page) ?? [];
export const files = [["card-backend.ts", card]] as const;
