import { readSync, writeSync } from "node:fs";
import { withOwnFile } from "../files/index.ts";
import { DumpState, Header, RECORD_BYTES } from "./record-layout.ts";
import { recordPaths } from "./status-folder.ts";
import { readStatus } from "./status-reader.ts";

/** How often it is looked whether the dumps have been written. */
const LOOK_MS = 20;
const AT = Header.dump * Float64Array.BYTES_PER_ELEMENT;

/**
 * Asks the ranks that have their records in this folder to write their flight recorders. Resolves when they have, or
 * when the time is up: a rank that runs code without ever returning to its event loop does not notice.
 */
export async function requestDumps(folder: string, limitMs: number): Promise<void> {
  const deadline = performance.now() + limitMs;
  let waiting = recordPaths(folder).filter((path) => isAlive(path) && request(path));
  while (waiting.length > 0 && performance.now() < deadline) {
    await Bun.sleep(LOOK_MS);
    waiting = waiting.filter((path) => stateIn(path) === DumpState.wanted && isAlive(path));
  }
}

function isAlive(path: string): boolean {
  const { process = "gone" } = readStatus(path) ?? {};
  return process !== "gone" && process !== "stopped";
}

/** Whether a rank can write its dump, and now knows that it is wanted. */
function request(path: string): boolean {
  return (
    withRecord(path, (file) => {
      if (wordOf(file) !== DumpState.offered) return false;
      writeSync(file, Float64Array.of(DumpState.wanted), 0, Float64Array.BYTES_PER_ELEMENT, AT);
      return true;
    }) ?? false
  );
}

function stateIn(path: string): number | undefined {
  return withRecord(path, wordOf);
}

function wordOf(file: number): number {
  const word = new Float64Array(1);
  readSync(file, word, 0, word.byteLength, AT);
  return word[0] ?? 0;
}

/** Calls `act` with the record, if it is there and is this user's. */
function withRecord<T>(path: string, act: (file: number) => T): T | undefined {
  return withOwnFile(path, { maxBytes: RECORD_BYTES, write: true }, (file, bytes) =>
    bytes === RECORD_BYTES ? act(file) : undefined,
  );
}
