import { endsJobOf, type Mode, modes, SMALL } from "./cell.ts";
import { type CaseName, caseNames, caseOf, type Way, ways } from "./ways.ts";

/** Where the ranks of nccl run, on the emulators of CUDA and NCCL: NCCL compares nothing, debug level DETAIL does. */
export const ncclPlaces = ["nccl (emulator)", "nccl (emulator), DETAIL"] as const;
export type NcclPlace = (typeof ncclPlaces)[number];

/** The backend has no monitored barrier. */
const lacking: readonly CaseName[] = ["barrier, monitored barrier", "all-reduce, monitored barrier"];
const worldSizes = [2, 4] as const;
const LARGE = 1 << 18;
/** Most cells end by it. */
export const TIMEOUT_MS = 1_000;

/** One combination of the matrix of nccl. */
export interface NcclCell {
  readonly name: CaseName;
  readonly place: NcclPlace;
  readonly mode: Mode;
  readonly bytes: number;
  readonly worldSize: number;
  /** The rank that differs from the others. */
  readonly odd: number;
}

export function isDetail({ place }: Pick<NcclCell, "place">): boolean {
  return place === "nccl (emulator), DETAIL";
}

export function endsJob({ name }: NcclCell): boolean {
  return endsJobOf(name);
}

/** The whole matrix; the odd rank and the size rotate from cell to cell. */
export function allNcclCells(): NcclCell[] {
  const cells: NcclCell[] = [];
  for (const place of ncclPlaces) {
    for (const worldSize of worldSizes) {
      for (const [i, name] of caseNames.entries()) {
        if (lacking.includes(name)) continue;
        // Those on the page are of rank 1 among two.
        const odd = worldSize === 2 ? 1 : i % worldSize;
        const bytes = worldSize === 2 ? SMALL : LARGE;
        for (const mode of modes) cells.push({ name, place, mode, bytes, worldSize, odd });
      }
    }
  }
  return cells;
}

/** A sample with three ways at each place, in worlds of one size; it differs for each `turn`. */
export function sampleNcclCells(turn: number): NcclCell[] {
  return ncclPlaces.flatMap((place, p) => {
    const worldSize = worldSizes[(turn + p) % worldSizes.length];
    const those = allNcclCells().filter((cell) => cell.place === place && cell.worldSize === worldSize);
    const chosen: readonly Way[] = [0, 1, 2].map((w) => ways[(turn * 3 + w + 6 * p) % ways.length] ?? "other op");
    return chosen.flatMap((way) => {
      const ofWay = those.filter(({ name }) => caseOf(name).way === way);
      const cell = ofWay[Bun.hash.crc32(`${turn} ${place} ${way}`) % ofWay.length];
      return cell === undefined ? [] : [cell];
    });
  });
}

/** Whether the message of this cell is the one on the page. */
export function isOnNcclPage({ worldSize, mode }: NcclCell): boolean {
  return worldSize === 2 && mode === "await";
}

export function nameOfNccl({ name, place, mode, bytes, worldSize, odd }: NcclCell): string {
  return `${caseOf(name).way}: ${name}, ${place}, rank ${odd}/${worldSize}, ${bytes} B, ${mode}`;
}
