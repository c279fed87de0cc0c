import { lstatSync, type Stats } from "node:fs";
import { DistStoreError } from "../../errors/index.ts";
import { foreignOwner, openness } from "../../files/index.ts";

/**
 * Refuses a store's file that another user controls: a user that can write it can send ranks to other addresses, and
 * its owner can replace or lock it.
 * @throws DistStoreError `UNTRUSTED_FILE`
 */
export function requireOwnFile(path: string, found: Stats): void {
  refuse(foreignOwner(path, found) ?? openness(path, found));
}

/**
 * Refuses a path that is another user's symbolic link. To be called before the file is opened, which would create one
 * at the link's target.
 * @throws DistStoreError `UNTRUSTED_FILE`
 */
export function requireOwnLink(path: string): void {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found?.isSymbolicLink()) refuse(foreignOwner(`the symbolic link ${path}`, found));
}

function refuse(reason: string | undefined): void {
  if (reason === undefined) return;
  throw new DistStoreError(
    `FileStore: ${reason}, so another user could send the ranks of this job elsewhere. Use a path in a folder of your own, or set anyOwner: true (any_owner=1 in a URL) if that is intended.`,
    { code: "UNTRUSTED_FILE" },
  );
}
