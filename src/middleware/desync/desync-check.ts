import { NO_TENSORS, type OpCall, opCall, opTable, opTypeOf } from "../../collectives/index.ts";
import { DistBackendError, type DistError, DistTimeoutError } from "../../errors/index.ts";
import { abortHelper, type Backend, type GroupContext, type Middleware, type Submit } from "../../registry/index.ts";
import { CPU, viewTensor } from "../../tensor/index.ts";
import { asError, DeferredWork, OpQueue, SteppedWork, type Steps, Work, type WorkInit } from "../../work/index.ts";
import { abortedError, type CheckedOp, mismatchError, missingError } from "./desync-errors.ts";
import { decoded, encoded, type Fingerprint, fingerprintOf, MAX_WORDS } from "./fingerprint.ts";
import { type OpCount, ownCount, pytorchCount } from "./op-count.ts";
import { callOfRun, pytorchRuns } from "./pytorch-runs.ts";

/** The second group of the same ranks, over which they compare what they call. */
export interface DesyncHelper {
  /** A Gloo backend. */
  readonly backend: Backend;
  /** Ranks in the group that run PyTorch, whose wrapper is on the other side then. */
  readonly foreign: readonly number[];
}

/**
 * Compares each collective with those of the other ranks before it begins: all ranks meet in a `monitoredBarrier`, then
 * exchange what they are about to call. A rank that is missing is named when the op times out; if ranks call different
 * ops, nothing is sent, and each gets a `DistBackendError` (`DESYNC`) that names two ranks and both calls. As in
 * PyTorch the group goes on after that. Messages pass through.
 *
 * c10d: `ProcessGroupWrapper`, with the same bytes on the wire.
 */
export function desyncCheck(helper: DesyncHelper): Middleware {
  return {
    name: "desync",
    create(context) {
      context.onClose(() => helper.backend.close());
      return (next) => {
        const check = new DesyncCheck(context, helper, next);
        context.onAbort((reason, isClosed) => check.end(reason, isClosed));
        return check.submit;
      };
    },
  };
}

/** A collective that is submitted once all ranks have been found to call it. */
class CheckedWork extends DeferredWork {
  readonly #keepsLimit: boolean;

  constructor(init: WorkInit, ahead: () => Work<unknown>, keepsLimit: boolean) {
    super(init, ahead);
    this.#keepsLimit = keepsLimit;
  }

  override get keepsLimit(): boolean {
    return this.#keepsLimit;
  }
}

/** A call and its place among the ops of the group. */
interface Numbered {
  readonly call: OpCall;
  /** Number in what ranks compare, had all ops before it been sent. */
  readonly number: number;
  /** Number among the collectives, counted in the same way. */
  readonly seq: number;
}

class DesyncCheck {
  readonly #context: GroupContext;
  readonly #helper: DesyncHelper;
  readonly #next: Submit;
  readonly #count: OpCount;
  readonly #checks = new OpQueue();
  /** Number of the next op. */
  #number = 0;
  /** Number of the collectives that have been called, those that were not sent left out: for Works and errors. */
  #collectives = 0;
  /** How many collectives were not sent. */
  #refused = 0;
  /** Why the group has ended. */
  #endReason: string | undefined;
  /** By how much ops that were not sent have made the numbers of later ones smaller. */
  #unsent = 0;

  constructor(context: GroupContext, helper: DesyncHelper, next: Submit) {
    this.#context = context;
    this.#helper = helper;
    this.#next = next;
    this.#count = this.#isMixed ? pytorchCount(context.size, helper.foreign.includes(0)) : ownCount;
  }

  /** To be called when the group has failed or is closed. */
  end(reason: string, isClosed: boolean): void {
    this.#endReason ??= reason;
    abortHelper(this.#helper.backend, reason, isClosed);
  }

  get #isMixed(): boolean {
    return this.#helper.foreign.length > 0;
  }

  readonly submit: Submit = (calls) => {
    const messages = calls.filter(isMessageCall);
    if (messages.length === calls.length) return this.#pass(calls);
    const sent = (messages.length === 0 ? [] : this.#pass(messages)).values();
    const collectives = calls.filter((call) => !isMessageCall(call));
    // PyTorch has no batches: its ranks compare and start the ops one by one.
    const parts = this.#isMixed ? pytorchRuns(collectives) : [collectives];
    const checked = parts.flatMap((part) => this.#check(part)).values();
    return calls.map((call) => (isMessageCall(call) ? sent : checked).next().value as Work<void>);
  };

  /** Submits calls as they are. */
  #pass(calls: readonly OpCall[]): readonly Work<void>[] {
    for (const call of calls) {
      this.#number += this.#count.of(call);
      this.#collectives += numberedOf(call);
    }
    return this.#next(calls);
  }

  /** Submits collectives once they have been compared, in the order of the calls. */
  #check(calls: readonly OpCall[]): readonly Work<void>[] {
    const isCompared = calls.some((call) => this.#count.compares(call));
    if (!isCompared && !this.#checks.isBusy) return this.#pass(calls);
    const { clock, capabilities } = this.#context;
    const began = clock.now();
    // A call that waits for others may reach its limit before it is compared.
    const keepsLimit =
      !this.#checks.isBusy &&
      capabilities.keepsTimeouts === true &&
      this.#helper.backend.capabilities.keepsTimeouts === true;
    const works: CheckedWork[] = [];
    const numbered = calls.map((call) => {
      const number = this.#number + this.#unsent;
      this.#number += this.#count.of(call);
      this.#collectives += numberedOf(call);
      const seq = this.#collectives;
      const init = { opType: opTypeOf(call), seq: capabilities.sequenceNumbers === true ? seq : -1 };
      works.push(new CheckedWork(init, () => this.#checks.ahead(), keepsLimit));
      return { call, number, seq: seq + this.#refused };
    });
    this.#checks.add(() => {
      const check = new SteppedWork<void>(
        { opType: opTypeOf(calls[0] as OpCall) },
        this.#steps(numbered, works, began),
      );
      check.start();
      return check;
    });
    return works;
  }

  *#steps(calls: readonly Numbered[], works: readonly CheckedWork[], began: number): Steps<void> {
    const { clock } = this.#context;
    const leftOf = ({ timeoutMs }: OpCall) => Math.max(1, Math.ceil(began + timeoutMs - clock.now()));
    const leftMs = () => Math.min(...calls.map(({ call }) => leftOf(call)));
    const compared = this.#comparedOf(calls);
    try {
      if (compared.length > 0) yield* this.#compare(compared, leftMs);
    } catch (error) {
      const unsent = calls.reduce((sum, { call }) => sum + this.#count.of(call), 0);
      const refused = calls.reduce((sum, { call }) => sum + numberedOf(call), 0);
      this.#collectives -= refused;
      this.#refused += refused;
      this.#number -= unsent;
      this.#unsent += unsent;
      for (const work of works) work.settle(asError(error, work));
      return;
    }
    const sent = this.#next(calls.map(({ call }) => ({ ...call, timeoutMs: leftOf(call) })));
    for (const [i, work] of sent.entries()) works[i]?.follow(work);
  }

  /** What of a part of a batch the ranks compare. */
  #comparedOf(calls: readonly Numbered[]): readonly Numbered[] {
    const run = this.#isMixed ? callOfRun(calls.map(({ call }) => call)) : undefined;
    const all = run === undefined ? calls : [{ ...(calls[0] as Numbered), call: run }];
    return all.filter(({ call }) => this.#count.compares(call));
  }

  *#compare(calls: readonly Numbered[], leftMs: () => number): Steps<void> {
    const { size } = this.#context;
    // What was not sent after these calls were numbered is missing from the numbers of all ranks.
    const own = calls.map(({ call, number }) => fingerprintOf(call, number - this.#unsent));
    try {
      yield this.#help(opCall("monitoredBarrier", CPU, NO_TENSORS, NO_TENSORS, leftMs(), { waitAllRanks: true }));
    } catch (error) {
      throw this.#missing(error, calls, own);
    }
    const words = encoded(own);
    const lengths = new BigInt64Array(size);
    yield this.#gather(BigInt64Array.of(BigInt(words.length)), split(lengths), leftMs());
    const other = lengths.findIndex((length) => length !== lengths[this.#context.rank]);
    if (other >= 0) {
      const theirs = this.#isMixed ? undefined : yield* this.#exchange(words, lengths, leftMs);
      const call = { rank: other, call: theirs?.[other], length: lengths[other] };
      throw mismatchError(own, call, this.#opsOf(calls), size);
    }
    const all = new BigInt64Array(size * words.length);
    const parts = split(all, words.length);
    yield this.#gather(words, parts, leftMs());
    for (const [rank, part] of parts.entries()) {
      if (part.every((word, i) => word === words[i])) continue;
      throw mismatchError(own, { rank, call: decoded(part) }, this.#opsOf(calls), size);
    }
  }

  /** What all ranks call, when that differs in length; `undefined` for a rank that sends something else. */
  *#exchange(
    words: BigInt64Array,
    lengths: BigInt64Array,
    leftMs: () => number,
  ): Steps<readonly (readonly Fingerprint[] | undefined)[]> {
    const longest = Math.max(...Array.from(lengths, Number));
    if (longest > MAX_WORDS) return [];
    const padded = new BigInt64Array(longest);
    padded.set(words);
    const parts = split(new BigInt64Array(longest * lengths.length), longest);
    yield this.#gather(padded, parts, leftMs());
    return parts.map((part, rank) => decoded(part.subarray(0, Math.max(0, Number(lengths[rank])))));
  }

  #gather(own: BigInt64Array, parts: readonly BigInt64Array[], timeoutMs: number): Work<void> {
    const views = parts.map((part) => viewTensor(part));
    return this.#help(opCall("allGather", CPU, [viewTensor(own)], views, timeoutMs));
  }

  #help(call: OpCall): Work<void> {
    const [work] = this.#helper.backend.submit([call]);
    return work ?? Work.rejected(new DistBackendError("the helper group returned no Work"), { opType: opTypeOf(call) });
  }

  /** The error when not all ranks have come. The helper group has failed, and with it the group. */
  #missing(cause: unknown, calls: readonly Numbered[], own: readonly Fingerprint[]): DistError {
    const known = asError(cause, { opType: opTypeOf((calls[0] as Numbered).call) });
    const { size } = this.#context;
    const [op] = this.#opsOf(calls) as [CheckedOp];
    // Other ranks may have noticed it, and left, before the helper group was aborted here.
    if (this.#endReason !== undefined && !(known instanceof DistTimeoutError)) {
      return abortedError(known, own, this.#endReason, op, size);
    }
    const error = missingError(known, own, op, size);
    this.#context.fail(error);
    return error;
  }

  #opsOf(calls: readonly Numbered[]): CheckedOp[] {
    const { backend, groupName: group, rank } = this.#context;
    return calls.map(({ call, seq }) => {
      return { backend, group, rank, op: opTable[call.op].api, seq: seq - this.#refused };
    });
  }
}

/** How many numbers a Work takes that are counted as backends count them. */
const numberedOf = ({ op, continuation }: OpCall): number =>
  opTable[op].kind === "collective" && !continuation ? 1 : 0;

const isMessageCall = ({ op }: OpCall): boolean => opTable[op].kind === "message";

/** Views of equal parts. */
function split(whole: BigInt64Array, length = 1): BigInt64Array[] {
  const count = length === 0 ? 0 : whole.length / length;
  return Array.from({ length: count }, (_, i) => whole.subarray(i * length, (i + 1) * length));
}
