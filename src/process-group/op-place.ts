/** One number for the entry of an op in the flight recorder and its slot in the status record; each is -1 for none. */
export function placeOf(entry: number, slot: number): number {
  return entry * PLACES + slot + 1;
}

const PLACES = 128;
export const NO_PLACE = -PLACES;
export const entryOf = (place: number): number => Math.floor(place / PLACES);
export const slotOf = (place: number): number => (place & (PLACES - 1)) - 1;
