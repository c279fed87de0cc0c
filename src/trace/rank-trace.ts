/**
 * How far an op is. `ended` is all that PyTorch's Gloo backend records of an op that is over: it may have completed or
 * failed.
 */
export type OpState = "scheduled" | "started" | "completed" | "failed" | "ended";

/** A line of the stack of a call. */
export interface TraceFrame {
  readonly name: string;
  readonly file: string;
  readonly line: number;
}

/** The side of a message that an op is. Ranks are global; -1 if unknown, as before a recv from any rank has ended. */
export interface MessageSide {
  readonly source: number;
  readonly destination: number;
  readonly tag: number;
  /** Which message from its source to its destination with its tag it is, from 1; 0 if the dump does not say. */
  readonly number: number;
}

/** What a rank called. */
export interface TraceCall {
  /** PyTorch's name of the op, such as `_all_gather_base`, and of the kind of op that it is, such as `all_gather`. */
  readonly name: string;
  readonly kind: string;
  /** Method that was called, if a Bun rank called it. */
  readonly api: string | undefined;
  /** Which collective of its group it is, from 1. */
  readonly seq: number;
  /** Of a message; undefined for a collective. */
  readonly message: MessageSide | undefined;
  readonly inputSizes: readonly (readonly number[])[];
  readonly outputSizes: readonly (readonly number[])[];
  readonly inputDtypes: readonly string[];
  readonly outputDtypes: readonly string[];
  readonly reduceOp: string | undefined;
  readonly root: number | undefined;
  /** Innermost first. */
  readonly frames: readonly TraceFrame[];
}

/** How long a call has waited for other ranks. Times in milliseconds since the Unix epoch, by the clock of the rank's host. */
export interface WaitingCall {
  readonly state: OpState;
  readonly createdMs: number;
  readonly finishedMs: number | undefined;
  /** Infinity for none. */
  readonly timeoutMs: number;
}

/** A call that makes or closes a group. */
export interface GroupCall extends WaitingCall {
  /** What was called, such as `newGroup`; `close` for any way to close a group. */
  readonly name: string;
  /** Name of the group, or the common prefix of the names of a split's parts. */
  readonly group: string;
  /** Global ranks of the members; empty if they are not known, or this rank is in none of the parts. */
  readonly ranks: readonly number[];
  readonly error: string | undefined;
  /** Innermost first. */
  readonly frames: readonly TraceFrame[];
}

/** An op that a rank called, and what has become of it. */
export interface TraceOp extends TraceCall, WaitingCall {
  readonly recordId: number;
  /** Uid of its group. */
  readonly group: string;
  readonly backend: string | undefined;
  readonly error: string | undefined;
  readonly startedMs: number | undefined;
}

/** A process group, as one rank knows it. */
export interface DumpedGroup {
  readonly uid: string;
  readonly description: string;
  /** Global ranks. */
  readonly ranks: readonly number[];
}

/** What the dump of one rank says. */
export interface RankTrace {
  readonly file: string;
  /** Global rank. */
  readonly rank: number;
  readonly version: string;
  readonly writer: "bun-c10d" | "pytorch";
  readonly host: string | undefined;
  readonly worldSize: number | undefined;
  /** Id of its world, which all ranks of a job have and no other job; undefined for PyTorch's ranks. */
  readonly world: string | undefined;
  /** By uid. PyTorch's Gloo backend records none. */
  readonly groups: ReadonlyMap<string, DumpedGroup>;
  /** Descriptions by uid of the groups of its ops. */
  readonly descriptions: ReadonlyMap<string, string>;
  /** Oldest first. */
  readonly ops: readonly TraceOp[];
  /** Calls that make and close groups, oldest first; undefined if the writer does not record them. */
  readonly groupCalls: readonly GroupCall[] | undefined;
  /** Whether it was dumped because a group failed, or the rank was going to be ended: what is in flight hangs. */
  readonly isFailure: boolean;
  /** Uids of groups whose ops have numbers of the dump's own: errors name those of the groups that they use in turn. */
  readonly countedGroups: readonly string[];
  /** Number of older ops that were overwritten. */
  readonly dropped: number;
  /** Whether ops between those in the dump are left out of it, as in a dump of active ops only. */
  readonly isPartial: boolean;
  /** When the dump was made, by the clock of the rank's host; the time of the file if the dump does not say. */
  readonly dumpedMs: number;
}

/** Whether an op is over, with whatever result. */
export function hasEnded({ state }: Pick<WaitingCall, "state">): boolean {
  return state !== "scheduled" && state !== "started";
}

/** Whether the call is one of a dump, which says more of it than what others say that a rank called. */
export function isRecorded(call: TraceCall): call is TraceOp {
  return "state" in call;
}

const LIBRARY = /[/\\]site-packages[/\\]torch[/\\]|[/\\]torch[/\\]distributed[/\\]/;

/** The line that called an op: the innermost one outside PyTorch. */
export function callSiteOf({ frames }: Pick<TraceCall, "frames">): TraceFrame | undefined {
  return frames.find(({ file }) => !LIBRARY.test(file)) ?? frames[0];
}
