import { constants, readdirSync, type Stats, statSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { InvalidArgumentError, messageOf } from "../../errors/index.ts";
import type { RankTrace } from "../rank-trace.ts";
import { readDump } from "./dump-reader.ts";
import { dumpError } from "./fields.ts";

const MAX_BYTES = 256 * 1024 * 1024;
const CHUNK = 65_536;
const MAX_FILES = 100_000;
const ENDS_WITH_RANK = /\d+(\.(json|pickle|pkl))?$/;

/** The dumps that were read. */
export interface Dumps {
  /** One of each rank. */
  readonly traces: readonly RankTrace[];
  /** Files that are no dumps, and why not. */
  readonly unreadable: readonly { readonly file: string; readonly reason: string }[];
  /** Files that are not looked at, since another one is the newest of the rank. */
  readonly superseded: readonly string[];
  /** Files that are not looked at, since they are of another job than the newest dump. */
  readonly ofOtherJobs: readonly string[];
}

/**
 * Reads the dumps that paths name: files, folders of files whose names end with a rank, or what such names start with,
 * as in `TORCH_FR_DUMP_TEMP_FILE`.
 * @throws InvalidArgumentError for a path that names nothing.
 */
export async function readDumps(paths: readonly string[]): Promise<Dumps> {
  const files = [...new Set(paths.flatMap(filesOf))];
  if (files.length > MAX_FILES)
    throw new InvalidArgumentError(`${files.length} files are too many; the limit is ${MAX_FILES}`);
  const unreadable: { readonly file: string; readonly reason: string }[] = [];
  const all: RankTrace[] = [];
  for (const file of files) {
    try {
      all.push(await readFile(file));
    } catch (error) {
      unreadable.push({ file, reason: messageOf(error) });
    }
  }
  const world = newestWorld(all);
  const isOther = (trace: RankTrace) => trace.world !== undefined && trace.world !== world;
  const newest = new Map<number, RankTrace>();
  const superseded: string[] = [];
  for (const trace of all) {
    if (isOther(trace)) continue;
    const other = newest.get(trace.rank);
    const isNewer = other === undefined || trace.dumpedMs > other.dumpedMs;
    if (isNewer) newest.set(trace.rank, trace);
    if (other !== undefined) superseded.push(isNewer ? other.file : trace.file);
  }
  const ofOtherJobs = all.filter(isOther).map(({ file }) => file);
  return { traces: [...newest.values()], unreadable, superseded, ofOtherJobs };
}

/** Of the newest dump that says it. */
function newestWorld(traces: readonly RankTrace[]): string | undefined {
  const known = traces.filter(({ world }) => world !== undefined);
  return known.reduce<RankTrace | undefined>((a, b) => (a === undefined || b.dumpedMs > a.dumpedMs ? b : a), undefined)
    ?.world;
}

async function readFile(file: string): Promise<RankTrace> {
  // What has taken its place since it was found may be a pipe, which would block.
  await using handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
  const stats = await handle.stat();
  if (!stats.isFile()) throw dumpError("it is no regular file");
  return readDump(await bytesOf(handle, stats.size), { file, writtenMs: stats.mtimeMs });
}

/** All of a file, whose size may be wrong: it may grow, and those of /proc have none. */
async function bytesOf(handle: FileHandle, size: number): Promise<Uint8Array> {
  if (size > MAX_BYTES) throw tooLarge();
  let bytes = new Uint8Array(size + CHUNK);
  for (let length = 0; ; ) {
    const { bytesRead } = await handle.read(bytes, length, bytes.length - length, null);
    length += bytesRead;
    if (length > MAX_BYTES) throw tooLarge();
    if (bytesRead === 0) return bytes.subarray(0, length);
    if (length < bytes.length) continue;
    const longer = new Uint8Array(Math.min(2 * length, MAX_BYTES) + CHUNK);
    longer.set(bytes);
    bytes = longer;
  }
}

function tooLarge(): Error {
  return dumpError(`it has more than ${MAX_BYTES} bytes`);
}

function filesOf(path: string): readonly string[] {
  const found = stat(path);
  if (found?.isFile() === true) return [path];
  if (found?.isDirectory() === true) return regularFiles(path, "");
  const files = found === undefined ? regularFiles(dirname(path), basename(path)) : [];
  if (files.length > 0) return files;
  const more = found === undefined ? ", and no files have this name with a rank added" : "";
  throw new InvalidArgumentError(`${path} is neither a file nor a folder${more}`, { argument: path });
}

/** Files of a folder that start with `prefix` and end with a rank. */
function regularFiles(folder: string, prefix: string): readonly string[] {
  if (stat(folder)?.isDirectory() !== true) return [];
  const names = readdirSync(folder).filter((name) => {
    if (!name.startsWith(prefix) || !ENDS_WITH_RANK.test(name)) return false;
    return prefix === "" || /^\d/.test(name.slice(prefix.length));
  });
  const paths = names.map((name) => join(folder, name)).filter((path) => stat(path)?.isFile() === true);
  return paths.sort(new Intl.Collator("en", { numeric: true }).compare);
}

function stat(path: string): Stats | undefined {
  return statSync(path, { throwIfNoEntry: false });
}
