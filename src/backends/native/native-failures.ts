import { opNames } from "../../collectives/op-table.ts";
import type { OpType } from "../../collectives/op-type.ts";
import {
  absenceText,
  CONTEXT_LOST,
  CudaError,
  DistBackendError,
  type DistError,
  DistNetworkError,
  DistTimeoutError,
  type ErrorInit,
  InvalidArgumentError,
  lostContext,
  shortageOfErrno,
  UnsupportedOperationError,
  withShortage,
} from "../../errors/index.ts";
import {
  descriptorsFor,
  type NativeFailure,
  type NativeGroup,
  NativeRefusal,
  type NativeWork,
  Status,
} from "../../native/index.ts";
import type { BackendContext } from "../../registry/index.ts";
import { opOf } from "../../work/index.ts";
import {
  type ConsultLimits,
  CREATION,
  consultOnFailure,
  type FailureKind,
  type FailureReport,
  type FailureVerdict,
  isMessage,
  reportFailure,
} from "./failure-report.ts";
import { agreement, blameText, mutualText } from "./verdict-text.ts";

/** Turns the native failures of a group into errors that name op, group and culprit. */
export class NativeFailures {
  readonly #backend: string;
  readonly #context: BackendContext;
  readonly #called: () => number;
  #verdict: Promise<FailureVerdict> | undefined;
  /** The verdict, once the ranks agree on one. */
  #agreed: FailureVerdict | undefined;
  /** The error that the group failed with, if any yet, and the part of its message that names the op. */
  #first: { readonly error: DistError; readonly where: string } | undefined;

  /** @param called How many collectives this rank has called. */
  constructor(backend: string, context: BackendContext, called: () => number = () => 0) {
    this.#backend = backend;
    this.#context = context;
    this.#called = called;
  }

  /** The error of an op by this rank's own view; the others are notified in the background. */
  now(failure: NativeFailure, work: NativeWork): DistError {
    if (isFatal(failure)) void this.#consult(failure, work);
    return this.#opError(failure, work, undefined);
  }

  /** The error of an op by what the ranks agree on. Never rejects. */
  async afterConsulting(failure: NativeFailure, work: NativeWork): Promise<DistError> {
    return this.#opError(failure, work, isFatal(failure) ? await this.#consult(failure, work) : undefined);
  }

  /**
   * Notifies the other ranks of a failure that no op reports. Never rejects.
   * @param failure What the native side noticed; undefined if this rank has aborted the group.
   */
  async report(text: string, failure?: NativeFailure): Promise<void> {
    const { rank, size, store } = this.#context;
    if (this.#verdict !== undefined || size === 1) return;
    const called = this.#called();
    const kind = failure === undefined ? "aborted" : kindOf(failure);
    const { peer, ranks } = failure ?? { peer: -1, ranks: [] };
    await reportFailure(store, { rank, op: "abort", seq: called, called, kind, text, peer, ranks });
  }

  /**
   * The error of a group that could not be made; the other ranks are notified of it. If this rank only waited for
   * others, the ranks agree on which are missing. Never rejects.
   */
  async ofCreation(failure: NativeFailure, limits: ConsultLimits): Promise<DistError> {
    const { rank, size, store } = this.#context;
    const { text, peer, ranks } = failure;
    const report = { rank, op: CREATION, seq: 0, called: 0, kind: kindOf(failure), text, peer, ranks };
    // Those that are making it, too, wait in vain.
    if (report.kind === "aborted" && size > 1) void reportFailure(store, report);
    if (report.kind === "aborted" || size === 1) return this.#creationError(failure, peersOf(failure));
    if (report.kind !== "lost" && report.kind !== "timeout") {
      await reportFailure(store, report);
      return this.#creationError(failure, peersOf(failure));
    }
    const verdict = await consultOnFailure(store, size, report, limits);
    const { cause } = verdict;
    if (cause.kind === "desync") return this.#creationError({ status: Status.DESYNC, text: cause.text }, []);
    // A rank that is late itself does not blame others.
    const peers = verdict.culprits.includes(rank) ? [] : verdict.culprits;
    return this.#creationError(this.#creationReason(failure, verdict), peers);
  }

  /** This rank's own reason, unless another rank knows the culprit better. */
  #creationReason(failure: NativeFailure, { culprits, cause, reports }: FailureVerdict): CreationReason {
    const { rank } = this.#context;
    const others = [cause, ...reports].filter((report) => report.rank !== rank);
    // The error of a culprit itself, else that of a rank that waited for it.
    const own = others.find((report) => report.kind === "other" && culprits.includes(report.rank));
    if (own === undefined && culprits.includes(failure.peer)) return failure;
    const known =
      own ?? others.find(({ peer }) => culprits.includes(peer)) ?? (cause.rank === rank ? undefined : cause);
    if (known === undefined) {
      const missing = culprits.length > 0 ? `; ${absenceText(rank, culprits)}` : "";
      return { ...failure, text: `${failure.text}${missing}` };
    }
    const status = known.kind === "timeout" ? Status.OP_TIMEOUT : Status.NETWORK;
    const where = known.op === CREATION ? "has given up making the group" : `has failed in ${known.op} #${known.seq}`;
    return { status, text: `rank ${known.rank} ${where}: ${known.text}` };
  }

  #creationError({ status, text, systemError = 0, deviceError }: CreationReason, peers: readonly number[]): DistError {
    const { groupName, rank, size, timeoutMs } = this.#context;
    const init = { backend: this.#backend, group: groupName, rank, timeoutMs };
    const blamed = peers.length > 0 ? { peers } : {};
    const message = `group "${groupName}" (${this.#backend}, rank ${rank} of ${size}): ${text}`;
    if (status === Status.OP_TIMEOUT) {
      const advice = `Do all its ranks make this group, in the same order as their other groups, and within ${timeoutMs} ms?`;
      const sentence = /[.?]$/.test(message) ? message : `${message}.`;
      return new DistTimeoutError(`${sentence} ${advice}`, { ...init, ...blamed, code: "CONNECT_TIMEOUT" });
    }
    const shortage = shortageOfErrno(systemError, descriptorsFor(size));
    if (shortage) return new DistBackendError(withShortage(message, shortage), { ...init, code: shortage.code });
    return makeError({ status, systemError, deviceError }, message, { ...init, ...blamed });
  }

  /**
   * The error of an op that was not accepted.
   * @param error What the submission threw, if anything.
   */
  refusal(opType: OpType, native: NativeGroup | undefined, error: unknown): DistError {
    const op = opNames[opType];
    const { groupName: group, rank } = this.#context;
    const init = { backend: this.#backend, group, op, rank };
    if (error instanceof NativeRefusal) {
      const { status } = error.failure;
      const isOfGroup = status === Status.GROUP_FAILED || status === Status.CLOSED;
      if (!isOfGroup) return makeError(error.failure, `${op}: ${error.message}`, init);
    } else if (error !== undefined) {
      return error instanceof Error && "code" in error
        ? (error as DistError)
        : new DistBackendError(String(error), init);
    }
    if (native === undefined || native.state === "CLOSED") {
      return new DistBackendError(
        `${op}: group "${group}" is closed; make a new one with initProcessGroup() or newGroup()`,
        {
          ...init,
          code: "GROUP_CLOSED",
        },
      );
    }
    const cause = this.#first?.error;
    // A rank that blocked named its own view, before it could ask the others.
    const seen = cause?.details.peers ?? [];
    const verdict = this.#agreed;
    const isKnown =
      verdict !== undefined &&
      (verdict.culprits.length > 0 || verdict.cause.kind === "desync" || mutualText(verdict) !== undefined);
    const peers = isKnown ? verdict.culprits : seen;
    const reason = this.#firstReason(verdict) ?? native.failureText;
    const agreed = isKnown ? agreement(verdict, seen, reason) : "";
    return new DistBackendError(
      `${op}: group "${group}" has failed before (${reason}${agreed}). ` +
        "It takes no more ops: make a new group with newGroup(), or destroyProcessGroup() and initProcessGroup() again",
      { ...init, code: "GROUP_FAILED", ...(peers.length > 0 && { peers }), ...(cause && { cause }) },
    );
  }

  /** Why the group failed. For a desync, names the two ranks that all ranks agree on, not those that this rank saw. */
  #firstReason(verdict: FailureVerdict | undefined): string | undefined {
    if (this.#first === undefined) return undefined;
    const { error, where } = this.#first;
    const namesTwo = error.code === "DESYNC" && verdict?.cause.kind === "desync";
    return namesTwo ? `${where}: ${verdict.cause.text}` : error.message;
  }

  #consult(failure: NativeFailure, work: NativeWork): Promise<FailureVerdict> {
    if (this.#verdict) return this.#verdict;
    const { rank, size, store } = this.#context;
    const report: FailureReport = {
      rank,
      op: opOf(work),
      seq: work.seq,
      // Messages have numbers of their own.
      called: isMessage({ op: opOf(work) }) ? this.#called() : Math.max(work.seq, this.#called()),
      kind: kindOf(failure),
      text: failure.text,
      peer: failure.peer,
      ranks: failure.ranks,
    };
    const verdict = consultOnFailure(store, size, report);
    this.#verdict = verdict;
    void verdict.then((agreed) => {
      this.#agreed = agreed;
    });
    return verdict;
  }

  #opError(failure: NativeFailure, work: NativeWork, verdict: FailureVerdict | undefined): DistError {
    const op = opOf(work);
    const { groupName: group, rank, size } = this.#context;
    const reason = this.#verdictOn(failure, verdict);
    // For a desync, there is no way to know which call is wrong.
    const peers = reason.status === Status.DESYNC ? [] : (verdict?.culprits ?? peersOf(failure));
    const where = `${op} #${work.seq} on group "${group}" (${this.#backend}, rank ${rank} of ${size})`;
    const init = { backend: this.#backend, group, op, seq: work.seq, rank, peers };
    const { status, text, systemError, deviceError } = reason;
    const error = failure.isDetached
      ? new InvalidArgumentError(`${where}: ${failure.text}`, { ...init, code: "DETACHED_BUFFER" })
      : makeError(
          { status, systemError, deviceError },
          `${where}: ${text}${blameText(this.#context.rank, reason, peers, verdict)}`,
          init,
        );
    if (isFatal(failure)) this.#first ??= { error, where };
    return error;
  }

  /**
   * A connection that broke because of a failure on another rank is reported as that failure. For a desync, all ranks
   * name the two ranks of one report, even the rank that wrote that report if its op failed with two others.
   */
  #verdictOn(failure: NativeFailure, verdict: FailureVerdict | undefined): Reason & Pick<NativeFailure, "text"> {
    const cause = verdict?.cause;
    if (cause === undefined) return failure;
    const isConsequence = failure.status === Status.NETWORK || failure.status === Status.DESYNC;
    if (isConsequence && cause.kind === "desync") return { status: Status.DESYNC, text: cause.text, systemError: 0 };
    if (cause.rank === this.#context.rank || failure.status !== Status.NETWORK) return failure;
    const text = `rank ${cause.rank}: ${cause.text}`;
    if (cause.kind === "timeout") return { status: Status.OP_TIMEOUT, text, systemError: 0 };
    return cause.kind === "lost" ? failure : { status: failure.status, text, systemError: 0 };
  }
}

/** Why a group could not be made. */
type CreationReason = Pick<NativeFailure, "status" | "text"> &
  Partial<Pick<NativeFailure, "systemError" | "deviceError">>;

/** What decides the class of an error. */
type Reason = Pick<NativeFailure, "status" | "systemError" | "deviceError">;

function peersOf({ status, peer, ranks }: NativeFailure): readonly number[] {
  // There is no way to know which of the two ranks is wrong.
  if (status === Status.DESYNC) return [];
  if (ranks.length > 0) return ranks;
  return peer >= 0 ? [peer] : [];
}

function isFatal(failure: NativeFailure): boolean {
  return failure.status !== Status.INVALID && failure.status !== Status.UNSUPPORTED;
}

function kindOf({ status }: NativeFailure): FailureKind {
  if (status === Status.DESYNC) return "desync";
  if (status === Status.OP_TIMEOUT) return "timeout";
  if (status === Status.NETWORK) return "lost";
  return status === Status.ABORTED || status === Status.CLOSED ? "aborted" : "other";
}

function makeError({ status, systemError, deviceError }: Reason, message: string, init: ErrorInit): DistError {
  switch (status) {
    case Status.OP_TIMEOUT:
      return new DistTimeoutError(message, { ...init, code: "OP_TIMEOUT" });
    case Status.NETWORK:
      return new DistNetworkError(message, { ...init, code: "PEER_LOST" });
    case Status.DESYNC:
      return new DistBackendError(message, { ...init, code: "DESYNC" });
    case Status.ABORTED:
    case Status.CLOSED:
      return new DistBackendError(message, { ...init, code: "ABORTED" });
    case Status.INVALID:
      return new InvalidArgumentError(message, init);
    case Status.UNSUPPORTED:
      return new UnsupportedOperationError(message, init);
    default: {
      const shortage = shortageOfErrno(systemError);
      if (shortage) return new DistBackendError(withShortage(message, shortage), { ...init, code: shortage.code });
      if (deviceError !== undefined) return deviceFailure(deviceError, message, init);
      return new DistBackendError(message, init);
    }
  }
}

/** The error of a library of CUDA's, as those of tensors. */
function deviceFailure(code: number, message: string, init: ErrorInit): CudaError {
  if (!lostContext(code)) return new CudaError(message, init);
  return new CudaError(`${message}. ${CONTEXT_LOST}`, { ...init, code: "CUDA_CONTEXT_LOST" });
}
