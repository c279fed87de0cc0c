import { type Place, places } from "./place.ts";
import { type Case, type CaseName, caseNames, caseOf, ways } from "./ways.ts";

export const modes = ["await", "wait"] as const;
export const worldSizes = [2, 3] as const;
export const SMALL = 4;
export const LARGE = 1 << 20;
/** Ops before the calls that differ. */
export const EARLIER_OPS = 2;

export type Mode = (typeof modes)[number];

/** One combination of the matrix. */
export interface Cell {
  readonly name: CaseName;
  readonly place: Place;
  /** How the ranks wait for their ops. */
  readonly mode: Mode;
  /** Bytes of the usual tensor. */
  readonly bytes: number;
  readonly worldSize: number;
  /** The rank that differs from the others. */
  readonly odd: number;
  /** Time-out of the ops. */
  readonly timeoutMs: number;
}

/** Only the time-out detects a silent case. */
const SILENT_TIMEOUT_MS = 1_000;
const TIMEOUT_MS = 20_000;

export function isSilent({ end }: Case): boolean {
  return end === "odd missing" || end === "others missing";
}

/** Whether a rank of the job exits in a case, so that no other cell can follow. */
export function endsJobOf(name: CaseName): boolean {
  return caseOf(name).odd.some(({ kind }) => kind === "exit");
}

export function endsJob({ name }: Cell): boolean {
  return endsJobOf(name);
}

/** The whole matrix. */
export function allCells(): Cell[] {
  const cells: Cell[] = [];
  for (const place of places) {
    for (const worldSize of worldSizes) {
      for (const name of caseNames) {
        if (place.lacks.includes(name)) continue;
        const timeoutMs = isSilent(caseOf(name)) ? SILENT_TIMEOUT_MS : TIMEOUT_MS;
        for (let odd = 0; odd < worldSize; odd++) {
          for (const bytes of isWithoutTensors(caseOf(name)) ? [0] : [SMALL, LARGE]) {
            for (const mode of modes) cells.push({ name, place, mode, bytes, worldSize, odd, timeoutMs });
          }
        }
      }
    }
  }
  return cells;
}

function isWithoutTensors({ usual, odd }: Case): boolean {
  return [...usual, ...odd].every((step) => "call" in step && step.call.text(1, 2).endsWith("()"));
}

/**
 * A sample in which every backend occurs at one of its places, with every way, in worlds of one size; it differs for
 * each `turn`. Slow cells, which end by a time-out or need their own processes, occur with one backend.
 */
export function sampleCells(turn: number): Cell[] {
  const cells = allCells();
  const byBackend = [...Map.groupBy(places, ({ backend }) => backend).values()];
  return byBackend.flatMap((choice, b) => {
    const place = choice[turn % choice.length];
    const worldSize = worldSizes[(Math.floor(turn / choice.length) + b) % worldSizes.length];
    const those = cells.filter((cell) => cell.place === place && cell.worldSize === worldSize);
    return ways.flatMap((way, w) => {
      const ofWay = those.filter((cell) => caseOf(cell.name).way === way);
      const quick = ofWay.filter((cell) => !isSilent(caseOf(cell.name)) && !endsJob(cell));
      const candidates = (turn + w + b) % byBackend.length === 0 ? ofWay : quick;
      const hash = Bun.hash.crc32(`${turn} ${place?.name} ${way}`);
      const cell = candidates[hash % candidates.length];
      return cell === undefined ? [] : [cell];
    });
  });
}

export function nameOf({ name, place, mode, bytes, worldSize, odd }: Cell): string {
  const size = bytes === LARGE ? "1 MB" : bytes === 0 ? "-" : `${bytes} B`;
  return `${caseOf(name).way}: ${name}, ${place.name}, rank ${odd}/${worldSize}, ${size}, ${mode}`;
}
