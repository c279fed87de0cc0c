import { type OpCall, OpType, opTable } from "../collectives/index.ts";
import {
  absenceText,
  addCallSite,
  addDetails,
  addToError,
  type CallSite,
  DistBackendError,
  DistError,
  DistTimeoutError,
  InvalidArgumentError,
  lineOf,
  messageOf,
  replaceInError,
  UnsupportedOperationError,
} from "../errors/index.ts";
import type { FlightRecorder, GroupRecord, TraceEntry } from "../recorder/index.ts";
import type { GroupStatus, OwnStatus, RankStatus } from "../status/index.ts";
import { LONG_WAIT_MS } from "../status/long-wait.ts";
import { callCodes } from "../status/op-codes.ts";
import {
  bindWork,
  type FailedWork,
  FailureWarnings,
  failureOf,
  finishedOf,
  type GroupState,
  isObserved,
  numberOf,
  OWN_RESULT,
  opOf,
  replaceError,
  sourceOf,
  startedOf,
  Work,
  type WorkErrorInit,
  type WorkOwner,
} from "../work/index.ts";
import type { RankNames } from "./arguments/rank-names.ts";
import { addCallPlaces } from "./call-places.ts";
import type { GroupHooks } from "./hooks/group-hooks.ts";
import { entryOf, NO_PLACE, placeOf, slotOf } from "./op-place.ts";
import { type PendingOps, pendingOps } from "./pending-ops.ts";

/** How long a `wait()` that polls uses what it has read of the other ranks. */
const LOOK_MS = 250;
/** Errors that are kept for `destroyProcessGroup()`. */
const MAX_KEPT_FAILURES = 100;

/** What is known of an op that is composed of others. Ranks are group ranks. */
export interface WholeTerms {
  /** The peer of a message, if the caller named it. */
  readonly peer?: number;
  readonly root?: number;
  readonly tag?: number;
  /** Time-out of the whole op; none by default. */
  readonly timeoutMs?: number;
  readonly callSite?: CallSite | undefined;
}

/** What the Works need of their group. */
export interface GroupStanding {
  readonly state: GroupState;
  abort(reason: string): void;
  /** Called when an op has failed with this error. */
  onFailure(error: DistError | undefined): void;
}

/** What is known of what the ranks are doing. */
export interface StatusOfRanks {
  /** What this rank records of the group. */
  readonly own: GroupStatus;
  /** The record of this rank, beside those of the other ranks. */
  readonly all: OwnStatus;
}

/** Stands in the status record for the Work of an op that is not made yet. */
const UNMADE = Work.completed(undefined, { opType: OpType.UNKNOWN });

/** The Works of a group: which are in flight, and which have failed unobserved. */
export class GroupWorks implements WorkOwner {
  readonly #ranks: RankNames;
  readonly #group: GroupStanding;
  readonly #recorder: FlightRecorder;
  readonly #recorded: GroupRecord;
  readonly #backends: readonly string[];
  readonly #hooks: GroupHooks;
  readonly #status: GroupStatus | undefined;
  readonly #statuses: StatusOfRanks | undefined;
  readonly #explained = new WeakSet<DistError>();
  #seen: { readonly at: number; readonly ranks: ReadonlyMap<number, RankStatus> } | undefined;
  readonly #warnings = new FailureWarnings();
  #failures: FailedWork[] = [];
  #inFlight = 0;
  #whenIdle: (() => void)[] = [];

  constructor(
    ranks: RankNames,
    group: GroupStanding,
    recorder: FlightRecorder,
    recorded: GroupRecord,
    hooks: GroupHooks,
    statuses?: StatusOfRanks,
  ) {
    this.#ranks = ranks;
    this.#group = group;
    this.#recorder = recorder;
    this.#recorded = recorded;
    this.#backends = Object.values(recorded.backends);
    this.#hooks = hooks;
    this.#statuses = statuses;
    this.#status = statuses?.own;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /**
   * Records an op before its hooks run, of which one may take long: this rank has called the op. Returns its slot in the
   * status record for {@link bind}.
   */
  announce(call: OpCall): number {
    return this.#begin(UNMADE, call, performance.now());
  }

  /** {@link announce} for an op that is composed of others. */
  announceWhole(op: string, opType: OpType, { peer = -1, callSite, timeoutMs }: WholeTerms): number {
    return this.#status?.beginWhole(UNMADE, op, opType, peer, performance.now(), callSite, timeoutMs) ?? -1;
  }

  /** The slot of an op whose Work has been made since. */
  #slotOf(announced: number, work: Work<unknown>): number {
    this.#status?.attach(announced, UNMADE, work);
    return announced;
  }

  /** Binds the Work of a call to this group and records it; see {@link bindWork}. */
  bind<T>(work: Work<unknown>, result: unknown, call: OpCall, announced?: number): Work<T> {
    const failure: Error | undefined = failureOf(work);
    if (failure !== undefined && !(failure instanceof DistError)) {
      replaceError(work, this.errorOf(messageOf(failure), { cause: failure }, work));
    }
    const { api } = opTable[call.op];
    const entry = this.#recorder.begin(this.#recorded, api, work, startedOf(work), call);
    const slot = announced === undefined ? this.#begin(work, call, startedOf(work)) : this.#slotOf(announced, work);
    const place = placeOf(entry, slot);
    bindWork(work, this, result, call.peer, place, call.callSite, api);
    return work as Work<T>;
  }

  /** Records the call in the status record; returns its slot there. */
  #begin(work: Work<unknown>, call: OpCall, began: number): number {
    if (this.#status === undefined) return -1;
    const { op, peer, callSite, timeoutMs } = call;
    const isMessage = opTable[op].kind === "message";
    return this.#status.begin(work, callCodes[op], isMessage, peer, began, bytesOf(call), callSite, timeoutMs);
  }

  /** {@link bind} for an op that is composed of others. */
  bindWhole<T>(work: Work<unknown>, result: unknown, op: string, terms: WholeTerms = {}, announced?: number): Work<T> {
    const { peer = -1, root = -1, tag = 0, timeoutMs = Number.POSITIVE_INFINITY, callSite } = terms;
    const call = { peer, root, tag, timeoutMs, callSite, inputs: [], outputs: [] } as const;
    const entry = this.#recorder.begin(this.#recorded, op, work, startedOf(work), call);
    const slot =
      announced === undefined
        ? (this.#status?.beginWhole(work, op, work.opType, peer, startedOf(work), callSite, timeoutMs) ?? -1)
        : this.#slotOf(announced, work);
    bindWork(work, this, result, undefined, placeOf(entry, slot), callSite, op);
    return work as Work<T>;
  }

  /** The Work of an op that was refused. */
  refused<T>(error: unknown, opType: OpType, callSite?: CallSite): Work<T> {
    const work = Work.rejected<T>(error, { opType });
    this.#status?.skip(opType);
    bindWork(work, this, OWN_RESULT, undefined, NO_PLACE, callSite);
    return work;
  }

  onStart(): void {
    this.#inFlight++;
  }

  onEnd(work: Work<unknown>, wasInFlight: boolean, place: number): void {
    const failure = failureOf(work);
    const entry = entryOf(place);
    if (this.#status !== undefined && place !== NO_PLACE) {
      this.#status.end(slotOf(place), work, finishedOf(work), failure !== undefined);
    }
    if (entry >= 0) {
      const error = failure === undefined ? undefined : messageOf(failure);
      this.#recorder.end(entry, finishedOf(work), sourceOf(work), error);
    }
    if (failure !== undefined) this.#onFailure(work);
    this.#hooks.ended(work);
    if (!wasInFlight || --this.#inFlight > 0 || this.#whenIdle.length === 0) return;
    for (const resolve of this.#whenIdle.splice(0)) resolve();
  }

  explain(error: DistError, work: Work<unknown>, callSite: CallSite | undefined): void {
    // Several Works may fail with one error; the first of them is the op that it is about.
    if (callSite !== undefined && error.details?.callSite === undefined) {
      const line = lineOf(callSite);
      if (line !== undefined && error instanceof DistTimeoutError) addToError(error, `called at ${line}`);
      if (line !== undefined) addDetails(error, { callSite: line });
      addCallSite(error, callSite);
    }
    if (error.code === "DESYNC") this.#explainCalls(error, work);
    const isLate = error instanceof DistTimeoutError;
    if ((isLate || error.code === "PEER_LOST") && !this.#explained.has(error)) this.#explainRanks(error, work, isLate);
  }

  /** Adds where the calls that differ were made. */
  #explainCalls(error: DistError, work: Work<unknown>): void {
    if (this.#explained.has(error)) return;
    this.#explained.add(error);
    const { name: group, rank, globalRanks } = this.#recorded;
    const turn = this.#statuses?.own.turnOf(work) ?? 0;
    const { callSite } = error.details;
    addCallPlaces(error, { group, rank, globalRanks, callSite, turn }, this.#statuses?.all);
  }

  /** Adds what the ranks that an op waits for are doing. */
  #explainRanks(error: DistError, work: Work<unknown>, isLate: boolean): void {
    const statuses = this.#statuses;
    if (statuses === undefined) return;
    this.#explained.add(error);
    // After the loss of a rank, others that have not called a new op may just be slower.
    const isLong = performance.now() - startedOf(work) >= LONG_WAIT_MS;
    const isWait = error.code === "WAIT_TIMEOUT";
    if (isWait && !isLong) return;
    const { name: group, rank, globalRanks } = this.#recorded;
    const { peers = [] } = error.details;
    if (isLate && work.opType === OpType.RECV_ANY_SOURCE && peers.length === 0) {
      const ranks = this.#look(statuses, isWait ? LOOK_MS : 0);
      const text = statuses.all.possibleSenders({ rank, globalRanks }, ranks);
      if (text !== "") addToError(error, text);
      return;
    }
    const turn = isLate || isLong ? statuses.own.turnOf(work) : 0;
    const began = performance.timeOrigin + startedOf(work);
    const op = { group, rank, globalRanks, peers, haveLeft: !isLate, turn, began, hasWaited: isLong };
    const { culprits, text } = statuses.all.missingRanks(op, this.#look(statuses, isWait ? LOOK_MS : 0));
    if (text === "") return;
    if (!Bun.deepEquals(culprits, peers)) {
      replaceInError(error, absenceText(rank, peers), absenceText(rank, culprits));
      addDetails(error, { peers: culprits });
    }
    addToError(error, text);
  }

  /** Reads the records, unless that was done this short a time ago: a program may poll with `wait({ timeout })`. */
  #look(statuses: StatusOfRanks, withinMs: number): ReadonlyMap<number, RankStatus> {
    const now = performance.now();
    if (this.#seen === undefined || now - this.#seen.at > withinMs)
      this.#seen = { at: now, ranks: statuses.all.ranks() };
    return this.#seen.ranks;
  }

  /** An error about one of the ops, for a failure in user code. */
  errorOf(text: string, init: WorkErrorInit, work: Work<unknown>): DistError {
    const { name: group, rank, globalRanks } = this.#recorded;
    const [seq, op] = [numberOf(work), opOf(work)];
    const [backend, ...others] = this.#backends;
    const where = `${op}${seq < 0 ? "" : ` #${seq}`} (${this.#backends.join(" or ")}, group "${group}", rank ${rank} of ${globalRanks.length})`;
    const details = { group, op, seq, rank, ...(backend !== undefined && others.length === 0 && { backend }) };
    return new DistBackendError(`${where}: ${text}`, { ...details, ...init });
  }

  globalRankOf(groupRank: number): number {
    return this.#ranks.globalRankOf(groupRank);
  }

  abort(reason: string): void {
    this.#group.abort(reason);
  }

  #onFailure(work: Work<unknown>): void {
    if (this.#failures.length >= MAX_KEPT_FAILURES) {
      const seen = this.#failures.filter((kept) => isObserved(kept) && isOfGroup(kept)).slice(0, 1);
      this.#failures = [...seen, ...this.#failures.filter((kept) => !isObserved(kept))];
    }
    if (this.#failures.length < MAX_KEPT_FAILURES) this.#failures.push(work);
    const { state } = this.#group;
    this.#warnings.add(work, state !== "OPEN" && isOfGroup(work) ? state : messageOf(failureOf(work)));
    this.#group.onFailure(failureOf(work));
  }

  /** Whether the group has failed, and an error of its ops that says so was observed. */
  get failureObserved(): boolean {
    return this.#group.state === "FAILED" && this.#failures.some((work) => isObserved(work) && isOfGroup(work));
  }

  /** Failures that were not observed. */
  get unobserved(): readonly FailedWork[] {
    return this.#failures.filter((work) => !isObserved(work));
  }

  /** Describes what is in flight. */
  pending(): PendingOps {
    const { name, globalRanks } = this.#recorded;
    const isOwn = ({ group }: TraceEntry) => group.name === name && group.globalRanks === globalRanks;
    const entries = this.#recorder.entries({ onlyActive: true }).filter(isOwn);
    return pendingOps(entries, this.#recorded, this.#statuses);
  }

  /** Resolves when nothing is in flight. */
  idle(): Promise<void> {
    if (this.#inFlight === 0) return Promise.resolve();
    return new Promise((resolve) => this.#whenIdle.push(resolve));
  }
}

/** Bytes of the tensors that a rank passes to an op, or gets from it if it passes none. */
function bytesOf({ inputs, outputs }: OpCall): number {
  const views = inputs.length === 0 ? outputs : inputs;
  if (views.length === 1) return views[0]?.byteLength ?? 0;
  let bytes = 0;
  for (const { byteLength } of views) bytes += byteLength;
  return bytes;
}

/** Whether an op failed with its group, rather than because of its arguments. */
function isOfGroup(work: FailedWork): boolean {
  const error = failureOf(work);
  return !(error instanceof InvalidArgumentError || error instanceof UnsupportedOperationError);
}
