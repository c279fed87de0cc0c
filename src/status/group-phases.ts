import { type CallSite, lineOf } from "../errors/index.ts";
import { endOf } from "./end-of-text.ts";
import type { GroupStatus } from "./group-status.ts";
import { Header, MAKING_TEXT, type Maker, makers } from "./record-layout.ts";

/** A call that makes a group. */
export interface RecordedMaking {
  readonly maker: Maker;
  /** On `performance.now()`. */
  readonly began: number;
  readonly callSite: CallSite;
  /** Name of the group of which it is made; undefined for the default group. */
  readonly parent?: string | undefined;
}

/** The same in the record. */
interface OwnMaking {
  readonly maker: number;
  readonly began: number;
  readonly callSite: string;
  readonly parent: number;
  readonly turn: number;
}

/** Where a record says them. */
interface RecordWriter {
  set(word: number, value: number): void;
  writeText(lengthAt: number, at: number, room: number, text: string): void;
}

/** The groups that a rank is making and closing, of which its record has those that take longest. */
export class GroupPhases {
  readonly #record: RecordWriter;
  /** The oldest first. */
  readonly #makings = new Set<OwnMaking>();
  /** Since when, the oldest first. */
  readonly #closings = new Map<GroupStatus, number>();

  constructor(record: RecordWriter) {
    this.#record = record;
  }

  /** A group is being made, until `end` is called. `turn` is its place among those of its parent. */
  make(
    { maker, began, callSite }: RecordedMaking,
    parent: GroupStatus | undefined,
  ): { readonly turn: number; readonly end: () => void } {
    const making: OwnMaking = {
      ...{ maker: makers.indexOf(maker) + 1, began, callSite: lineOf(callSite) ?? "" },
      ...{ parent: parent?.number ?? 0, turn: parent?.make() ?? 0 },
    };
    this.#makings.add(making);
    this.#writeMaking();
    const end = () => {
      this.#makings.delete(making);
      this.#writeMaking();
    };
    return { turn: making.turn, end };
  }

  #writeMaking(): void {
    const record = this.#record;
    const [oldest] = this.#makings;
    record.set(Header.making, 0);
    if (oldest === undefined) return;
    record.set(Header.makingSince, oldest.began);
    record.set(Header.makingParent, oldest.parent);
    record.set(Header.makingTurn, oldest.turn);
    record.writeText(Header.makingLength, MAKING_TEXT.at, MAKING_TEXT.bytes, endOf(oldest.callSite, MAKING_TEXT.bytes));
    record.set(Header.making, oldest.maker);
  }

  /** A group is being closed, from now on or no longer. */
  setClosing(group: GroupStatus, isClosing: boolean): void {
    if (isClosing && !this.#closings.has(group)) this.#closings.set(group, performance.now());
    if (!isClosing) this.#closings.delete(group);
    const [oldest] = this.#closings;
    this.#record.set(Header.closing, 0);
    if (oldest === undefined) return;
    this.#record.set(Header.closingSince, oldest[1]);
    this.#record.set(Header.closing, oldest[0].number);
  }
}
