import type { GroupStatus } from "./group-status.ts";
import { GROUP_TEXT, GROUPS, Group, groupAt } from "./record-layout.ts";

/** Which groups have a place in a record. */
export class GroupPlaces {
  readonly #words: Float64Array;
  readonly #writeText: (lengthAt: number, at: number, room: number, text: string) => void;

  constructor(words: Float64Array, writeText: (lengthAt: number, at: number, room: number, text: string) => void) {
    this.#words = words;
    this.#writeText = writeText;
  }

  /**
   * Gives a group a place: one that no open group has, else that of the group that was used longest ago.
   * @param isInFlight Whether an op of the group of this number is in flight: such groups are the last to lose theirs.
   */
  give(group: GroupStatus, all: Iterable<GroupStatus>, isInFlight: (number: number) => boolean): void {
    const words = this.#words;
    const { number, standing } = group;
    const places = Array.from({ length: GROUPS }, (_, i) => groupAt((number - 1 + i) % GROUPS));
    const at = places.find((each) => words[each + Group.isOpen] !== 1) ?? takenFrom([...all], isInFlight);
    if (at === undefined) return;
    // Readers ignore a place whose number changes meanwhile.
    words[at + Group.number] = 0;
    words[at + Group.isOpen] = 1;
    words[at + Group.rank] = standing.rank;
    words[at + Group.size] = standing.size;
    group.place = at;
    const text = `${standing.name}\n${standing.backends.join(" or ")}`;
    this.#writeText(at + Group.textLength, at + GROUP_TEXT.at, GROUP_TEXT.bytes, text);
    words[at + Group.number] = number;
  }
}

function takenFrom(all: readonly GroupStatus[], isInFlight: (number: number) => boolean): number | undefined {
  const placed = all.filter(({ place }) => place >= 0).sort((a, b) => a.usedAt - b.usedAt);
  const loser = placed.find(({ number }) => !isInFlight(number)) ?? placed[0];
  if (loser === undefined) return undefined;
  const at = loser.place;
  loser.place = -1;
  return at;
}
