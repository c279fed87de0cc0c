import { type OpCall, type OpType, opTable } from "../collectives/index.ts";
import {
  addCallSite,
  addToError,
  type CallSite,
  DistBackendError,
  DistError,
  DistTimeoutError,
  InvalidArgumentError,
  lineOf,
  messageOf,
  UnsupportedOperationError,
} from "../errors/index.ts";
import type { FlightRecorder, GroupRecord } from "../recorder/index.ts";
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
import type { GroupHooks } from "./hooks/group-hooks.ts";

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

/** The Works of a group: which are in flight, and which have failed unobserved. */
export class GroupWorks implements WorkOwner {
  readonly #ranks: RankNames;
  readonly #group: GroupStanding;
  readonly #recorder: FlightRecorder;
  readonly #recorded: GroupRecord;
  readonly #backends: readonly string[];
  readonly #hooks: GroupHooks;
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
  ) {
    this.#ranks = ranks;
    this.#group = group;
    this.#recorder = recorder;
    this.#recorded = recorded;
    this.#backends = Object.values(recorded.backends);
    this.#hooks = hooks;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** Binds the Work of a call to this group and records it; see {@link bindWork}. */
  bind<T>(work: Work<unknown>, result: unknown, call: OpCall): Work<T> {
    const failure: Error | undefined = failureOf(work);
    if (failure !== undefined && !(failure instanceof DistError)) {
      replaceError(work, this.errorOf(messageOf(failure), { cause: failure }, work));
    }
    const entry = this.#recorder.begin(this.#recorded, opTable[call.op].api, work, startedOf(work), call);
    bindWork(work, this, result, call.peer, entry, call.callSite);
    return work as Work<T>;
  }

  /** {@link bind} for an op that is composed of others. */
  bindWhole<T>(work: Work<unknown>, result: unknown, op: string, terms: WholeTerms = {}): Work<T> {
    const { peer = -1, root = -1, tag = 0, timeoutMs = Number.POSITIVE_INFINITY, callSite } = terms;
    const call = { peer, root, tag, timeoutMs, callSite, inputs: [], outputs: [] } as const;
    const entry = this.#recorder.begin(this.#recorded, op, work, startedOf(work), call);
    bindWork(work, this, result, undefined, entry, callSite);
    return work as Work<T>;
  }

  /** The Work of an op that was refused. */
  refused<T>(error: unknown, opType: OpType, callSite?: CallSite): Work<T> {
    const work = Work.rejected<T>(error, { opType });
    bindWork(work, this, OWN_RESULT, undefined, undefined, callSite);
    return work;
  }

  onStart(): void {
    this.#inFlight++;
  }

  onEnd(work: Work<unknown>, wasInFlight: boolean, entry: number): void {
    const failure = failureOf(work);
    if (entry >= 0) {
      const error = failure === undefined ? undefined : messageOf(failure);
      this.#recorder.end(entry, finishedOf(work), sourceOf(work), error);
    }
    if (failure !== undefined) this.#onFailure(work);
    this.#hooks.ended(work);
    if (!wasInFlight || --this.#inFlight > 0 || this.#whenIdle.length === 0) return;
    for (const resolve of this.#whenIdle.splice(0)) resolve();
  }

  explain(error: DistError, _work: Work<unknown>, callSite: CallSite | undefined): void {
    if (callSite === undefined) return;
    const line = error instanceof DistTimeoutError ? lineOf(callSite) : undefined;
    if (line !== undefined) addToError(error, `called at ${line}`, { callSite: line });
    addCallSite(error, callSite);
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

  /** Resolves when nothing is in flight. */
  idle(): Promise<void> {
    if (this.#inFlight === 0) return Promise.resolve();
    return new Promise((resolve) => this.#whenIdle.push(resolve));
  }
}

/** Whether an op failed with its group, rather than because of its arguments. */
function isOfGroup(work: FailedWork): boolean {
  const error = failureOf(work);
  return !(error instanceof InvalidArgumentError || error instanceof UnsupportedOperationError);
}
