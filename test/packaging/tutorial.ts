/**
 * docs/write-a-backend.md as data. `bun test/packaging/tutorial.ts --write` puts the files of the examples into the
 * page.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";

export const root = resolve(import.meta.dir, "../..");
const page = join(root, "docs/write-a-backend.md");
/** A block of code: its language, the file that it is or is part of, and its text. */
const BLOCK = /^```(\w+)(?: (\S+))?\n([\s\S]*?)^```$/gm;

/** What a reader does in one chapter: write the files, then run the commands. */
export interface Chapter {
  readonly title: string;
  /** Contents by path. */
  readonly files: ReadonlyMap<string, string>;
  readonly commands: readonly string[];
}

export function readTutorial(): Chapter[] {
  const chapters = readFileSync(page, "utf8").split(/^## /m).slice(1);
  return chapters.map((text) => {
    const files = new Map<string, string>();
    const commands: string[] = [];
    for (const [, language, file, code = ""] of text.matchAll(BLOCK)) {
      // A long file is printed in parts.
      if (file !== undefined) files.set(file, (files.get(file) ?? "") + code);
      else if (language === "sh") commands.push(...code.trim().split("\n"));
    }
    return { title: text.slice(0, text.indexOf("\n")), files, commands };
  });
}

/** The example file that a tutorial file comes from; undefined for files that are only on the page. */
export function exampleOf(file: string): string | undefined {
  const [folder, ...rest] = file.split("/");
  const example = { sockets: "custom-backend", shm: "native-backend" }[folder ?? ""];
  return example === undefined ? undefined : join(root, "examples", example, ...rest);
}

/** The page with the current files. A file with several blocks is split at its headings, `/* ---- … *\/`. */
function refreshed(): string {
  const used = new Map<string, number>();
  const text = readFileSync(page, "utf8");
  const blocks = [...text.matchAll(BLOCK)].map(([, , file]) => file);
  return text.replace(BLOCK, (block: string, language: string, file: string | undefined) => {
    const example = file === undefined ? undefined : exampleOf(file);
    if (file === undefined || example === undefined) return block;
    const content = readFileSync(example, "utf8");
    const count = blocks.filter((each) => each === file).length;
    const parts = count === 1 ? [content] : content.split(/^(?=\/\* ----)/m);
    if (parts.length !== count)
      throw new Error(`${file} has ${parts.length} parts, the page has ${count} blocks of it`);
    const i = used.get(file) ?? 0;
    used.set(file, i + 1);
    return `\`\`\`${language} ${file}\n${parts[i] ?? ""}\`\`\``;
  });
}

if (import.meta.main && process.argv.includes("--write")) writeFileSync(page, refreshed());
