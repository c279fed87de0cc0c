import { lstatSync, type Stats } from "node:fs";
import { DistStoreError } from "../../errors/index.ts";

const writableByAll = 0o002;
const root = 0;

/**
 * Refuses a store's file that another user controls: who writes it sends ranks to addresses of his own, and who owns it may
 * take or lock it. Files of root are as good as one's own.
 * @throws DistStoreError `UNTRUSTED_FILE`
 */
export function requireOwnFile(path: string, found: Stats, user = process.geteuid?.()): void {
  if (user === undefined) return;
  const isOwn = ({ uid }: Stats) => uid === user || uid === root;
  if (!isOwn(found)) throw foreign(path, `belongs to the user with the number ${found.uid}`);
  if ((found.mode & writableByAll) !== 0) throw foreign(path, "can be written by all users");
  const link = lstatSync(path, { throwIfNoEntry: false });
  if (link?.isSymbolicLink() && !isOwn(link)) {
    throw foreign(path, `is a symbolic link of the user with the number ${link.uid}`);
  }
}

function foreign(path: string, why: string): DistStoreError {
  return new DistStoreError(
    `FileStore: ${path} ${why}, who could lead the ranks of this job elsewhere. Use a path in a folder of your own, or say anyOwner: true (any_owner=1 in a URL) if that is meant.`,
    { code: "UNTRUSTED_FILE" },
  );
}
