import { basename, isAbsolute } from "node:path";

/** Names that Bun gives, in the current folder, to a program that is in no file. */
const withoutFile: ReadonlySet<string> = new Set(["[eval]", "[stdin]"]);

/** The file of the program that runs; undefined for `bun -e` and `bun -`. */
export function programFile(): string | undefined {
  return isAbsolute(Bun.main) && !withoutFile.has(basename(Bun.main)) ? Bun.main : undefined;
}
