import { type CallSite, framesOf } from "../errors/index.ts";
import type { Dict, Form } from "./dump-entry.ts";

/** A call that makes or closes a group, on which a rank may wait for others before or after all ops. */
export interface GroupCallInit {
  /** What was called, such as `newGroup`. */
  readonly call: string;
  /** Name of the group, or the common prefix of the names of a split's parts. */
  readonly group: string;
  /** Global rank of this rank. */
  readonly globalRank: number;
  /** Global ranks that take part, as far as they are known: the members of the group. */
  readonly globalRanks: readonly number[];
  readonly timeoutMs: number;
  readonly callSite?: CallSite | undefined;
  /** When it was called, on the clock of `performance.now()`. */
  readonly began: number;
  /** Id of its world, if that is known yet. */
  readonly world?: string | undefined;
}

/** The same as the recorder keeps it. */
export class GroupCall {
  readonly init: GroupCallInit;
  ended: number | undefined;
  error: string | undefined;

  constructor(init: GroupCallInit) {
    this.init = init;
  }

  /** Records how it ended. @param error Message of its error, if it failed. */
  end(error?: string): void {
    this.ended ??= performance.now();
    this.error ??= error;
  }
}

/** Calls that are kept; those that have not ended are kept in any case. */
const CAPACITY = 256;

/** The calls that made and closed the groups of a container, oldest first. */
export class GroupCalls {
  readonly #calls: GroupCall[] = [];

  begin(init: GroupCallInit, isKept: boolean): GroupCall {
    const call = new GroupCall(init);
    if (!isKept) return call;
    const known = this.#calls.findIndex((each) => isSameCall(each.init, init));
    if (known >= 0) this.#calls.splice(known, 1);
    this.#calls.push(call);
    if (this.#calls.length > CAPACITY) {
      const oldest = this.#calls.findIndex(({ ended }) => ended !== undefined);
      if (oldest >= 0) this.#calls.splice(oldest, 1);
    }
    return call;
  }

  /** Those of one rank, or of all; without those of an earlier world than `world`. */
  of(globalRank: number | undefined, world: string | undefined): readonly GroupCall[] {
    return this.#calls.filter(({ init }) => {
      const isRank = globalRank === undefined || init.globalRank === globalRank;
      return isRank && (init.world === undefined || world === undefined || init.world === world);
    });
  }
}

/** The default group is made in several phases of one call. */
function isSameCall(one: GroupCallInit, other: GroupCallInit): boolean {
  const { call, group, callSite, began } = one;
  return began === other.began && callSite === other.callSite && call === other.call && group === other.group;
}

/** A call in a dump. */
export function dumpedGroupCall({ init, ended, error }: GroupCall, form: Form, hasStack: boolean): Dict {
  const { call, group, globalRanks, timeoutMs, callSite, began } = init;
  const time = (ms: number) => Math.round((performance.timeOrigin + ms) * 1e6);
  const frames = hasStack && callSite !== undefined ? framesOf(callSite) : [];
  return {
    call,
    group,
    ranks: globalRanks,
    state: ended === undefined ? "started" : error === undefined ? "completed" : "failed",
    ...(error !== undefined && { error }),
    time_created_ns: time(began),
    time_completed_ns: ended === undefined ? (form === "json" ? 0 : null) : time(ended),
    timeout_ms: Number.isFinite(timeoutMs) ? Math.round(timeoutMs) : -1,
    frames: frames.map(({ name, file, line }) => ({ name: name || "<anonymous>", filename: file, line })),
  };
}
