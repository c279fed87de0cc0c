export { createOwnFile } from "./own-file.ts";
export { type FolderFinding, madeOwnFolder, makeFoldersIn, ownFolder } from "./own-folder.ts";
export { anybodyAt, isTrusted, strangerAt } from "./stranger.ts";
