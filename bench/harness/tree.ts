import { resolve } from "node:path";
import { fileURLToPath } from "node:url";

/** This checkout. */
export const OWN_TREE = fileURLToPath(new URL("../..", import.meta.url));

/** Where the shims of a checkout are; C10D_NATIVE_DIR may name another folder for this one. */
export function shimsOf(tree: string): string {
  const elsewhere = tree === OWN_TREE ? process.env.C10D_NATIVE_DIR : undefined;
  return elsewhere ?? resolve(tree, "build/release/lib");
}
