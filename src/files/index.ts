export { createOwnFile, isTemporaryName, replaceOwnFile } from "./own-file.ts";
export { createFoldersIn, createOwnFolder, type FolderFinding, ownFolder } from "./own-folder.ts";
export { programFile } from "./program-file.ts";
export { readOwnText, withOwnFile } from "./read-own-file.ts";
export { foreignOwner, isTrusted, openness, untrustedOwnerAt, writableByAnyoneAt } from "./stranger.ts";
