import { isMessage, OpType } from "../collectives/index.ts";
import type { CallSite } from "../errors/index.ts";
import type { Work } from "../work/index.ts";
import { opCode } from "./op-codes.ts";
import { Group } from "./record-layout.ts";
import type { RecordedStanding, StatusRecord } from "./status-record.ts";

/** The part of a record that is about one group. */
export class GroupStatus {
  readonly #record: StatusRecord;
  readonly standing: RecordedStanding;
  /** Number in the record. */
  readonly number: number;
  /** Where it is in the record; -1 while it has no place there. */
  #at = -1;
  /** Number of ops that the record had when one was called on the group. */
  usedAt = 0;
  /** The failure of the first of its ops that has failed, or of the last one that did so for a reason of its own. */
  failure: { readonly code: string | undefined; readonly at: number } | undefined;
  #turn = 0;
  #made = 0;

  constructor(record: StatusRecord, number: number, standing: RecordedStanding) {
    this.#record = record;
    this.number = number;
    this.standing = standing;
  }

  /** For {@link StatusRecord}. */
  get place(): number {
    return this.#at;
  }

  /** For {@link StatusRecord}: the group has got a place, or another group has taken it. */
  set place(at: number) {
    this.#at = at;
    if (at < 0) return;
    this.#record.set(at + Group.turn, this.#turn);
    this.#record.set(at + Group.newest, 0);
    this.#record.set(at + Group.made, this.#made);
  }

  /** Records a call. A collective takes a turn. Returns its slot for {@link end}. */
  begin(
    work: Work<unknown>,
    op: number,
    isMessage: boolean,
    peer: number,
    began: number,
    bytes: number,
    callSite: CallSite | undefined,
    timeoutMs: number = Number.POSITIVE_INFINITY,
  ): number {
    if (this.#at < 0) this.#record.place(this);
    if (isMessage) return this.#record.begin(this, work, op, 0, peer, began, bytes, callSite, timeoutMs);
    const slot = this.#record.begin(this, work, op, ++this.#turn, -1, began, bytes, callSite, timeoutMs);
    if (this.#at >= 0) {
      this.#record.set(this.#at + Group.newest, slot + 1);
      this.#record.set(this.#at + Group.turn, this.#turn);
    }
    return slot;
  }

  /** {@link begin} for an op that is composed of others. */
  beginWhole(
    work: Work<unknown>,
    name: string,
    opType: OpType,
    peer: number,
    began: number,
    callSite: CallSite | undefined,
    timeoutMs?: number,
  ): number {
    return this.begin(work, opCode(name, opType), !takesTurn(opType), peer, began, 0, callSite, timeoutMs);
  }

  /** An op that was begun with a Work standing in for its own has that now. */
  attach(slot: number, standIn: Work<unknown>, work: Work<unknown>): void {
    this.#record.attach(slot, standIn, work);
  }

  /** An op was refused: if it is a collective, the other ranks may have called it. */
  skip(opType: OpType): void {
    if (!takesTurn(opType)) return;
    this.#turn++;
    if (this.#at >= 0) this.#record.set(this.#at + Group.turn, this.#turn);
  }

  end(slot: number, work: Work<unknown>, ended: number, hasFailed: boolean): void {
    this.#record.end(this, slot, work, ended, hasFailed);
  }

  /** The place of a pending op among the collectives of the group; 0 if it has none or is not in the record. */
  turnOf(work: Work<unknown>): number {
    return this.#record.turnOf(work);
  }

  /** A group is being made of this one. Returns its place among those. */
  make(): number {
    this.#made++;
    if (this.#at < 0) this.#record.place(this);
    if (this.#at >= 0) this.#record.set(this.#at + Group.made, this.#made);
    return this.#made;
  }

  /** The rank waits for its ops, and closes the group. */
  closing(): void {
    if (this.#at < 0) this.#record.place(this);
    this.#record.setClosing(this, true);
  }

  close(): void {
    this.#record.setClosing(this, false);
    this.#record.forget(this);
    if (this.#at >= 0) this.#record.set(this.#at + Group.isOpen, 0);
  }
}

/** Whether all ranks of the group call the op: no message, nor a batch, of which the parts count. */
function takesTurn(opType: OpType): boolean {
  return !isMessage(opType) && opType !== OpType.COALESCED;
}
