import { type Place, places } from "../desync/place.ts";
import { isFaulty, programOf, programs } from "./program.ts";
import { type End, endAt, type Mode, modes } from "./shape.ts";

export const worldSizes = [2, 3] as const;

/** The places with all ranks on this host. */
export const localPlaces: readonly Place[] = places.filter(({ name }) => !name.endsWith("two hosts"));

/** One run of a program. */
export interface Cell {
  readonly program: string;
  readonly place: Place;
  readonly mode: Mode;
  readonly worldSize: number;
}

/** How a correct program ends. */
const quietly: End = { kind: "legal", reason: "it is correct" };

export function endOf({ program, place }: Pick<Cell, "program" | "place">): End {
  const found = programOf(program);
  return isFaulty(found) ? endAt(found, place) : quietly;
}

/** Time-out of ops that are expected to end by it. */
const SILENT_MS = 1_500;
/** Time-out of all others, also on a busy machine. */
const LIMIT_MS = 20_000;

export function timeoutOf(cell: Cell): number {
  const end = endOf(cell);
  if (end.kind !== "found") return LIMIT_MS;
  const { place, mode, worldSize: size } = cell;
  const isSilent = Array.from({ length: size }, (_, rank) => end.by({ rank, size, mode, place }))
    .flat()
    .some(({ kind }) => kind === "missing" || kind === "crossed");
  return isSilent ? SILENT_MS : LIMIT_MS;
}

export function allCells(): Cell[] {
  return localPlaces.flatMap((place) =>
    [...programs].flatMap(([program, found]) => {
      if (!isFaulty(found) && found.lacks?.[place.backend] !== undefined) return [];
      return modes.flatMap((mode) => worldSizes.map((worldSize) => ({ program, place, mode, worldSize })));
    }),
  );
}

/** A share of the programs at each place, in worlds of one size; another one for each `turn`. */
export function sampleCells(turn: number): Cell[] {
  return localPlaces.flatMap((place, p) => {
    const worldSize = worldSizes[(turn + p) % worldSizes.length];
    return allCells().filter((cell) => {
      const hash = Bun.hash.crc32(`${turn} ${place.name} ${cell.program}`);
      const isLucky = hash % SAMPLE === 0 && cell.mode === modes[(hash / SAMPLE) & 1];
      return cell.place === place && cell.worldSize === worldSize && isLucky && !isAlone(cell);
    });
  });
}

/** One of so many programs is in a sample. */
const SAMPLE = 7;

/** Whether the program needs its own processes. */
export function isAlone({ program }: Cell): boolean {
  const found = programOf(program);
  return isFaulty(found) && found.alone === "without destroy";
}

export function nameOfCell({ program, place, mode, worldSize }: Cell): string {
  return `${program}, ${place.name}, ${worldSize} ranks, ${mode}`;
}
