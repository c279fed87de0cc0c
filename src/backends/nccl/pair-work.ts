import {
  DistBackendError,
  type DistError,
  DistNetworkError,
  DistTimeoutError,
  InvalidArgumentError,
} from "../../errors/index.ts";
import type { WorkInit } from "../../work/index.ts";
import { type Awaited, LazyWork, type StreamOfCall } from "../native/lazy-work.ts";

/** Two ranks of a group, which have a communicator of their own for messages; the lower is its rank 0. */
export interface Pair {
  readonly low: number;
  readonly high: number;
  /** Number of ranks of the group. */
  readonly size: number;
}

/** Key of the pair in PyTorch's store, and its name in messages. */
export function pairKey({ low, high }: Pair): string {
  return `${low}:${high}`;
}

/** A message in the communicator of a pair: ranks are those of the group. */
export class PairWork extends LazyWork {
  readonly #pair: Pair;

  constructor(init: WorkInit, stream: StreamOfCall, awaited: Awaited, pair: Pair) {
    super(init, stream, awaited);
    this.#pair = pair;
  }

  override cameFrom(rank: number): void {
    super.cameFrom(ofGroup(this.#pair, rank));
  }

  /** The native communicator ends its ops by its own time-outs, as does the creation. */
  override get keepsLimit(): boolean {
    return true;
  }

  override settle(error?: DistError): void {
    // Before that, errors are about the group.
    super.settle(error !== undefined && this.isSubmitted ? inGroup(error, this.#pair) : error);
  }
}

function ofGroup({ low, high }: Pair, rank: number): number {
  return rank === 0 ? low : rank === 1 ? high : rank;
}

/** An error about ranks of the pair, as one about ranks of the group. */
export function inGroup(error: DistError, pair: Pair): DistError {
  const { peers, rank } = error.details;
  const message = error.message
    .replace(/\brank ([01]) of 2\b/g, (_, digit: string) => `RANK ${ofGroup(pair, Number(digit))} of ${pair.size}`)
    .replace(/\branks 0 and 1\b/g, `RANKS ${pair.low} and ${pair.high}`)
    .replace(/\brank ([01])\b/g, (_, digit: string) => `RANK ${ofGroup(pair, Number(digit))}`)
    .replace(/\bRANK(S?) /g, (_, plural: string) => `rank${plural.toLowerCase()} `);
  const init = {
    ...error.details,
    code: error.code,
    cause: error.cause,
    ...(peers !== undefined && { peers: peers.map((peer) => ofGroup(pair, peer)) }),
    ...(rank !== undefined && { rank: ofGroup(pair, rank) }),
  };
  return remade(error, message, init);
}

function remade(error: DistError, message: string, init: ConstructorParameters<typeof DistBackendError>[1]): DistError {
  if (error instanceof DistTimeoutError) return new DistTimeoutError(message, init);
  if (error instanceof DistNetworkError) return new DistNetworkError(message, init);
  if (error instanceof InvalidArgumentError) return new InvalidArgumentError(message, init);
  return new DistBackendError(message, init);
}
