import { constants } from "node:fs";
import { type FileHandle, open, unlink } from "node:fs/promises";

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY } = constants;

/**
 * Makes a file that this user alone can read, in place of what is there: that is removed, and neither written to nor
 * followed where it is a symbolic link. Its folder has to be one of {@link makeFoldersIn}.
 */
export async function createOwnFile(path: string): Promise<FileHandle> {
  await unlink(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw error;
  });
  return open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
}
