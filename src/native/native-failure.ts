import { ptr } from "bun:ffi";
import { FailureLayout, Mismatch, Status } from "./abi.generated.ts";

const TEXT_BYTES = 4096;
const MAX_RANKS = 1024;
const decoder = new TextDecoder();

/** How an op or a group failed, in the terms of the shim ABI: `c10d_failure`. */
export interface NativeFailure {
  /** One of {@link Status}. */
  readonly status: number;
  /** Rank that this one waited for or lost, or -1. */
  readonly peer: number;
  /** Human-readable reason. */
  readonly text: string;
  /** One of {@link Mismatch}. */
  readonly mismatch: number;
  /** The two ranks of a mismatch, else those that certainly caused it. */
  readonly ranks: readonly number[];
  /** `errno` of the system call that failed, or 0. */
  readonly systemError: number;
  /** What the library of the device returned, such as a `CUresult`; undefined if it is not about the device. */
  readonly deviceError?: number;
  /** Whether the op itself caused it: its memory was detached during the op. */
  readonly isDetached?: boolean;
}

/** A failure detected in TypeScript. */
export function ownFailure(status: number, text: string): NativeFailure {
  return { status, peer: -1, text, mismatch: Mismatch.NONE, ranks: [], systemError: 0 };
}

const words = new Int32Array(new ArrayBuffer(FailureLayout.SIZE));
const ranks = new Int32Array(new ArrayBuffer(MAX_RANKS * 4));
const text = new Uint8Array(new ArrayBuffer(TEXT_BYTES));
const wide = new BigUint64Array(words.buffer);
words[FailureLayout.size / 4] = FailureLayout.SIZE;
words[FailureLayout.rankCapacity / 4] = MAX_RANKS;
words[FailureLayout.textCapacity / 4] = TEXT_BYTES;
wide[FailureLayout.ranks / 8] = BigInt(ptr(ranks));
wide[FailureLayout.text / 8] = BigInt(ptr(text));

/**
 * What a function of the ABI writes into a `c10d_failure`; undefined if nothing failed. There is one record per thread,
 * and nothing yields in between. Shims of third parties are not trusted: ranks outside the group are dropped, and
 * fields that a shim does not set do not keep the values of the previous failure.
 *
 * @param worldSize Number of ranks of the group; 0 if there is none yet.
 */
export function readFailure(
  call: (failure: Int32Array<ArrayBuffer>) => number,
  worldSize: number,
): NativeFailure | undefined {
  for (const offset of written) words[offset / 4] = 0;
  words[FailureLayout.peer / 4] = -1;
  if (call(words) === Status.OK) return undefined;
  const at = (offset: number): number => words[offset / 4] ?? 0;
  const isRank = (rank: number): boolean => rank >= 0 && rank < worldSize;
  const peer = at(FailureLayout.peer);
  const deviceError = at(FailureLayout.deviceError);
  const named = ranks.subarray(0, Math.min(MAX_RANKS, at(FailureLayout.rankCount) >>> 0));
  return {
    status: at(FailureLayout.status),
    peer: isRank(peer) ? peer : -1,
    text: decoder.decode(text.subarray(0, Math.min(TEXT_BYTES, at(FailureLayout.textBytes) >>> 0))),
    mismatch: at(FailureLayout.mismatch),
    ranks: [...new Set(named)].filter(isRank),
    systemError: at(FailureLayout.systemError),
    ...(deviceError !== 0 && { deviceError }),
  };
}

/** Fields that native code writes. */
const written: readonly number[] = [
  FailureLayout.status,
  FailureLayout.mismatch,
  FailureLayout.systemError,
  FailureLayout.deviceError,
  FailureLayout.rankCount,
  FailureLayout.textBytes,
];
