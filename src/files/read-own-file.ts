import { closeSync, constants, fstatSync, openSync, readSync, type Stats } from "node:fs";
import { messageOf, printable, shortageOf, warn } from "../errors/index.ts";
import { foreignOwner } from "./stranger.ts";

const { O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_RDWR } = constants;

export interface OwnFileTerms {
  /** A larger file is not used. */
  readonly maxBytes: number;
  /** Whether `act` writes to it as well. */
  readonly write?: boolean;
}

/**
 * Calls `act` with a file that any program of this user may have put where it is: nothing that blocks, such as a pipe,
 * nor a symbolic link, nor a file of another user or of any size. Undefined if there is no such file; what is there
 * instead is reported once.
 * @param act Is passed the open file and its size.
 */
export function withOwnFile<T>(
  path: string,
  terms: OwnFileTerms,
  act: (file: number, bytes: number) => T,
): T | undefined {
  let file: number;
  try {
    file = openSync(path, (terms.write === true ? O_RDWR : O_RDONLY) | O_NOFOLLOW | O_NONBLOCK);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // A process without free descriptors says so elsewhere.
    if (code !== "ENOENT" && shortageOf(error) === undefined) ignored(path, openFaults[code ?? ""] ?? messageOf(error));
    return undefined;
  }
  try {
    const found = fstatSync(file);
    const fault = faultOf(path, found, terms.maxBytes);
    if (fault === undefined) return act(file, found.size);
    ignored(path, fault);
    return undefined;
  } finally {
    closeSync(file);
  }
}

/** The text of such a file. */
export function readOwnText(path: string, maxBytes: number): string | undefined {
  return withOwnFile(path, { maxBytes }, (file, size) => {
    const bytes = new Uint8Array(size);
    let length = 0;
    for (let count = -1; count !== 0 && length < size; length += count) {
      count = readSync(file, bytes, length, size - length, length);
    }
    return new TextDecoder().decode(bytes.subarray(0, length));
  });
}

const NO_FILE = "it is not a regular file";
const openFaults: Readonly<Record<string, string>> = {
  ELOOP: "it is a symbolic link",
  ENXIO: NO_FILE,
  EISDIR: NO_FILE,
};

function faultOf(path: string, found: Stats, maxBytes: number): string | undefined {
  if (!found.isFile()) return NO_FILE;
  const owner = foreignOwner(path, found, (uid) => uid === process.getuid?.());
  if (owner !== undefined) return owner;
  return found.size > maxBytes ? `it has ${found.size} bytes, more than ${maxBytes}` : undefined;
}

const reported = new Set<string>();
/** So many files are reported; more would only hide what else a program prints. */
const MAX_REPORTED = 20;

function ignored(path: string, fault: string): void {
  if (reported.has(path) || reported.size === MAX_REPORTED) return;
  reported.add(path);
  warn(`${printable(path)} is ignored: ${printable(fault)}`, "FILE_IGNORED");
}
