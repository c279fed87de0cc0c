import { SLOTS, Slot, slotAt } from "./record-layout.ts";

/** Which slots of a record are free. */
export class OpSlots {
  readonly #words: Float64Array;
  /** A ring, with the slot that was freed longest ago first, so that an ended op stays readable for a while. */
  readonly #free = Int32Array.from({ length: SLOTS }, (_, i) => i);
  #first = 0;
  #count = SLOTS;

  constructor(words: Float64Array) {
    this.#words = words;
  }

  /** A slot for an op of a group; -1 if there is none. @param turn 0 for a message. */
  take(turn: number, group: number): number {
    if (this.#count === 0) return turn > 0 ? this.#takeFromOther(group) : -1;
    const slot = this.#free[this.#first] ?? 0;
    this.#first = (this.#first + 1) & (SLOTS - 1);
    this.#count--;
    return slot;
  }

  /** @param isNext Whether the next op gets this slot, so that others stay readable. */
  free(slot: number, isNext: boolean): void {
    if (isNext) this.#first = (this.#first - 1) & (SLOTS - 1);
    this.#free[(this.#first + (isNext ? 0 : this.#count)) & (SLOTS - 1)] = slot;
    this.#count++;
  }

  /**
   * The slot of an op in flight, for a collective, since its group has to be seen to be in one: that of the newest
   * message, else, if the record has none of the group's collectives, that of the newest op. -1 if it has one.
   */
  #takeFromOther(group: number): number {
    let message = -1;
    let newest = 0;
    let isRecorded = false;
    for (let slot = 0; slot < SLOTS; slot++) {
      if (this.#at(slot, Slot.number) > this.#at(newest, Slot.number)) newest = slot;
      if (this.#at(slot, Slot.turn) > 0) isRecorded ||= this.#at(slot, Slot.group) === group;
      else if (message < 0 || this.#at(slot, Slot.number) > this.#at(message, Slot.number)) message = slot;
    }
    if (message >= 0) return message;
    return isRecorded ? -1 : newest;
  }

  #at(slot: number, word: number): number {
    return this.#words[slotAt(slot) + word] ?? 0;
  }
}
