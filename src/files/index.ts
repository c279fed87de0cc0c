export { createOwnFile } from "./own-file.ts";
export { type FolderFinding, madeOwnFolder, makeFoldersIn, ownFolder } from "./own-folder.ts";
export { programFile } from "./program-file.ts";
export { anybodyAt, foreignOwner, isTrusted, openness, strangerAt } from "./stranger.ts";
