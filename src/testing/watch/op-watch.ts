import { type OpCall, opTable, opTypeOf } from "../../collectives/index.ts";
import { DistBackendError, type DistError, DistTimeoutError } from "../../errors/index.ts";
import type { GroupContext, Submit } from "../../registry/index.ts";
import { isWork, Work } from "../../work/index.ts";
import type { FaultInjector } from "./fault-injector.ts";
import { LostWork } from "./lost-work.ts";
import type { OpLogWriter } from "./op-log.ts";

/** Records the ops of a group in the log, and applies the faults to them. */
export function watchOps(context: GroupContext, log: OpLogWriter, faults: FaultInjector): (next: Submit) => Submit {
  const watch = new OpWatch(context, log, faults);
  return (next) => (calls) => watch.submit(calls, next);
}

/** A call, and what to do with it. */
interface WatchedCall {
  readonly call: OpCall;
  /** Number among the ops of this rank; 0 for a call that is not an op. */
  readonly number: number;
  readonly slot: number | undefined;
  /** Work of a call that does not reach the backend. */
  readonly held: Work<void> | undefined;
}

class OpWatch {
  readonly #context: GroupContext;
  readonly #log: OpLogWriter;
  readonly #faults: FaultInjector;
  readonly #lost = new Set<LostWork>();
  /** Whether a collective was lost: later ones wait behind it. */
  #blocked = false;
  /** From then on the group itself refuses calls. */
  #hasFailed = false;

  constructor(context: GroupContext, log: OpLogWriter, faults: FaultInjector) {
    this.#context = context;
    this.#log = log;
    this.#faults = faults;
    context.onAbort((reason) => this.#endLost(reason));
    context.onClose(() => this.#endLost("the group was closed while the op was in flight"));
  }

  submit(calls: readonly OpCall[], next: Submit): readonly Work<void>[] {
    const watched = calls.map((call) => this.#begin(call));
    const works = watched.some(({ held }) => held !== undefined) ? merge(watched, next) : next(calls);
    // The group itself checks that they are valid.
    const list: readonly unknown[] = Array.isArray(works) ? works : [];
    for (const [i, { number, slot }] of watched.entries()) {
      const work = list[i];
      if (number === 0) continue;
      if (isWork(work)) this.#follow(work, number, slot);
      else this.#log.end(slot);
    }
    return works;
  }

  #begin(call: OpCall): WatchedCall {
    if (opTable[call.op].kind === "turn") {
      // If passed on now, it would take the turn of the op that was lost.
      const held = this.#blocks(call) ? Work.completed(undefined, { opType: opTypeOf(call) }) : undefined;
      return { call, number: 0, slot: undefined, held };
    }
    const number = this.#faults.count();
    this.#faults.strike("before", number);
    const { groupName, backend } = this.#context;
    return { call, number, slot: this.#log.begin(call.op, groupName, backend), held: this.#lose(call, number) };
  }

  #follow(work: Work<unknown>, number: number, slot: number | undefined): void {
    if (slot !== undefined) this.#log.number(slot, work.seq);
    this.#faults.strike("during", number);
    work.whenEnded(() => {
      this.#log.end(slot);
      this.#faults.strike("after", number);
    });
  }

  #blocks({ op }: OpCall): boolean {
    return this.#blocked && !this.#hasFailed && opTable[op].kind !== "message";
  }

  /** The Work of an op that does not reach the backend; undefined if it does. */
  #lose(call: OpCall, number: number): Work<void> | undefined {
    const drops = this.#faults.drops(number);
    if (this.#hasFailed || !(drops || this.#blocks(call))) return undefined;
    if (opTable[call.op].kind !== "message") this.#blocked = true;
    const { op, timeoutMs } = call;
    const how = drops ? "it was dropped by the fault script" : "it waits behind an op that the fault script dropped";
    const text = `${this.#where(op)}, op ${number} of this rank: timed out after ${timeoutMs} ms; ${how}`;
    const work = new LostWork({ opType: opTypeOf(call) }, timeoutMs, () => this.#timeOut(text, op, timeoutMs));
    this.#lost.add(work);
    work.whenEnded(() => this.#lost.delete(work));
    return work;
  }

  /** The backend does not know of lost ops, so the group has to be failed here. */
  #timeOut(text: string, op: string, timeoutMs: number): void {
    const error = new DistTimeoutError(text, { ...this.#details(), op, code: "OP_TIMEOUT", timeoutMs });
    this.#settleLost(error);
    this.#context.fail(error);
  }

  #endLost(reason: string): void {
    const text = `${this.#where("an op that was dropped")}: ${reason}`;
    this.#settleLost(new DistBackendError(text, { ...this.#details(), code: "ABORTED" }));
  }

  #settleLost(error: DistError): void {
    this.#hasFailed = true;
    for (const work of [...this.#lost]) work.settle(error);
  }

  #where(op: string): string {
    const { groupName, backend, rank, size } = this.#context;
    return `${op} on group "${groupName}" (${backend}, rank ${rank} of ${size})`;
  }

  #details() {
    const { backend, groupName: group, rank } = this.#context;
    return { backend, group, rank };
  }
}

/** The Works of calls of which only some are passed on, as one batch. */
function merge(watched: readonly WatchedCall[], next: Submit): readonly Work<void>[] {
  const passed = watched.flatMap(({ call, held }) => (held === undefined ? [call] : []));
  const works = passed.length === 0 ? [] : [...next(passed)];
  return watched.flatMap(({ held }) => held ?? works.shift() ?? []);
}
