/** What a rank says at the end of a program. */
export type Verdict =
  /** All its calls succeed, with right results. */
  | { readonly kind: "finishes" }
  /** A call is refused because of an argument; `op` is absent where the argument is not one of an op. */
  | { readonly kind: "refused"; readonly op?: string; readonly argument: string }
  /** The backend has no such reduction. */
  | { readonly kind: "unsupported"; readonly op: string; readonly argument: string }
  | { readonly kind: "not initialized" }
  /**
   * The op times out, and names at least one of these ranks and no other. If a rank blocks and the time of another one
   * is up first, its error says that instead (`PEER_LOST`), and names them as well.
   */
  | { readonly kind: "missing"; readonly op: string; readonly peers: readonly number[] }
  /** The op times out, and names two ranks that wait for each other, without blaming one of them. */
  | { readonly kind: "crossed"; readonly op: string; readonly peers: readonly [number, number] }
  /** Two ranks call different collectives; the error names both calls. */
  | { readonly kind: "desync"; readonly calls: readonly Called[] }
  /** A message has another size than its receive; the error names both. */
  | { readonly kind: "size"; readonly sent: Sized; readonly expected: Sized };

/** The size of a message: gloo and mpi know its bytes, the others also its dtype. */
export interface Sized {
  readonly bytes: number;
  /** As in messages, e.g. `int32[4]`. */
  readonly text: string;
}

/** A call as a message names it. */
export interface Called {
  readonly ranks: readonly number[];
  readonly call: string;
}

export const finishes: Verdict = { kind: "finishes" };
export const notInitialized: Verdict = { kind: "not initialized" };

export function refused(op: string, argument: string): Verdict {
  return { kind: "refused", op, argument };
}

/** Refused when the tensor is made, so that no op is called with it. */
export function refusedTensor(argument: string): Verdict {
  return { kind: "refused", argument };
}

export function unsupported(op: string, argument: string): Verdict {
  return { kind: "unsupported", op, argument };
}

export function missing(op: string, ...peers: readonly number[]): Verdict {
  return { kind: "missing", op, peers };
}

export function crossed(op: string, ...peers: readonly [number, number]): Verdict {
  return { kind: "crossed", op, peers };
}

export function desync(...calls: readonly Called[]): Verdict {
  return { kind: "desync", calls };
}

export function called(call: string, ...ranks: readonly number[]): Called {
  return { call, ranks };
}

export function size(sent: Sized, expected: Sized): Verdict {
  return { kind: "size", sent, expected };
}

export function sized(bytes: number, text: string): Sized {
  return { bytes, text };
}
