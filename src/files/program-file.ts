import { basename, isAbsolute } from "node:path";

/** File names in the current folder that Bun uses for a program that is not in a file. */
const withoutFile: ReadonlySet<string> = new Set(["[eval]", "[stdin]"]);

/** The file of the running program; undefined for `bun -e` and `bun -`. */
export function programFile(): string | undefined {
  return isAbsolute(Bun.main) && !withoutFile.has(basename(Bun.main)) ? Bun.main : undefined;
}
