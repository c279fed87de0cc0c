import { readFileSync } from "node:fs";
import { join } from "node:path";
import { DistError, explained } from "../errors/index.ts";
import { untrustedOwnerAt } from "../files/index.ts";

/**
 * The folder of this package, if this code runs there. A bundle runs wherever it is installed, possibly next to files
 * that any user may have put there.
 */
export function packageFolder(): string | undefined {
  const folder = Bun.fileURLToPath(new URL("../../", import.meta.url)).replace(/\/$/, "");
  const manifest = join(folder, "package.json");
  try {
    const { name } = JSON.parse(readFileSync(manifest, "utf8")) as { readonly name?: unknown };
    return name === "bun-c10d" && untrustedOwnerAt(manifest) === undefined ? folder : undefined;
  } catch (error) {
    const reason = explained(`cannot read ${manifest}`, error);
    if (reason instanceof DistError) throw reason;
    return undefined;
  }
}
