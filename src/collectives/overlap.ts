import { InvalidArgumentError } from "../errors/index.ts";
import { bufferOf, type Extent, extentOf, haveCommonBytes, memoryKindOf, type TensorView } from "../tensor/index.ts";

/** A range of bytes of a tensor. */
export interface Part {
  readonly offset: number;
  readonly bytes: number;
}

/** Tensors of one argument of a call. */
export interface Operands {
  readonly argument: string;
  readonly views: readonly TensorView[];
  /** The part of tensor `i` that may already be in place, if it has one. */
  readonly own?: (view: TensorView, i: number) => Part | undefined;
  /** Whether only tensors at the same index in both lists belong together. */
  readonly inPairs?: boolean;
}

/** Up to this many operands, comparing all pairs is cheapest. */
const SHORT_LIST = 16;

interface Operand extends Extent {
  readonly of: Operands;
  readonly i: number;
  readonly isWritten: boolean;
}

/**
 * Throws when an op would write to memory that it also reads, or writes twice: libraries then return wrong results or
 * end the process. The part that a rank sends to itself may already be in place.
 */
export function requireDisjoint(op: string, written: Operands, read: Operands | undefined): void {
  if (areInOwnBuffers(written.views, read?.views)) return;
  const operands = extentsOf(written, read);
  if (operands === undefined) return;
  if (operands.length > SHORT_LIST) {
    requireDisjointList(op, operands);
    return;
  }
  for (const [at, a] of operands.entries()) {
    for (let next = at + 1; next < operands.length; next++) {
      const b = operands[next];
      if (b !== undefined && haveCommonBytes(a, b)) requireInPlace(op, a, b);
    }
  }
}

/** {@link requireDisjoint} in less than quadratic time. */
function requireDisjointList(op: string, operands: Operand[]): void {
  const spaces = new Map<object, { written: Operand[]; read: Operand[] }>();
  for (const operand of operands.sort((a, b) => a.start - b.start)) {
    const inSpace = spaces.get(operand.space) ?? { written: [], read: [] };
    spaces.set(operand.space, inSpace);
    (operand.isWritten ? inSpace.written : inSpace.read).push(operand);
  }
  for (const { written, read } of spaces.values()) {
    let before: Operand | undefined;
    for (const each of written) {
      if (before !== undefined && each.start < before.end) requireInPlace(op, before, each);
      before = each;
    }
    // The written extents do not overlap each other, so they are also sorted by their ends.
    let first = 0;
    for (const each of read) {
      while ((written[first]?.end ?? Number.POSITIVE_INFINITY) <= each.start) first++;
      for (let at = first; ; at++) {
        const other = written[at];
        if (other === undefined || other.start >= each.end) break;
        requireInPlace(op, other, each);
      }
    }
  }
}

/** Whether a call has one tensor of each kind, in separate buffers: the fast path for most calls. */
function areInOwnBuffers(written: readonly TensorView[], read: readonly TensorView[] | undefined): boolean {
  if (written.length > 1 || (read !== undefined && read.length > 1)) return false;
  const [a] = written;
  const [b] = read ?? [];
  if (a === undefined || b === undefined) return true;
  if (a.data === undefined || b.data === undefined || memoryKindOf(a.data) === "shared") return false;
  return bufferOf(a.data) !== bufferOf(b.data);
}

/** The extents of all tensors; undefined if no two lie in the same memory space, which is the common case. */
function extentsOf(written: Operands, read: Operands | undefined): Operand[] | undefined {
  const all = [written.views, read?.views ?? []];
  const absolute = all.some((views) => views.some(({ data }) => data === undefined));
  const operands: Operand[] = [];
  const spaces = new Set<object>();
  for (const of of read === undefined ? [written] : [written, read]) {
    for (const [i, view] of of.views.entries()) {
      if (view.byteLength === 0) continue;
      const extent = extentOf(view, absolute);
      spaces.add(extent.space);
      operands.push({ ...extent, of, i, isWritten: of === written });
    }
  }
  return spaces.size === operands.length ? undefined : operands;
}

/** Throws unless two overlapping operands are only read, or are already in place. */
function requireInPlace(op: string, a: Operand, b: Operand): void {
  if ((a.isWritten || b.isWritten) && !isInPlace(a, b)) refuse(op, a, b);
}

/** Whether the bytes that two tensors share are exactly the part that may already be in place. */
function isInPlace(a: Operand, b: Operand): boolean {
  if (a.isWritten === b.isWritten) return false;
  if ((a.of.inPairs || b.of.inPairs) && a.i !== b.i) return false;
  const start = Math.max(a.start, b.start);
  const end = Math.min(a.end, b.end);
  return [a, b].every((operand) => {
    const view = operand.of.views[operand.i];
    const part = view && operand.of.own?.(view, operand.i);
    return part !== undefined && operand.start + part.offset === start && start + part.bytes === end;
  });
}

function refuse(op: string, a: Operand, b: Operand): never {
  const [first, second] = a.isWritten ? [a, b] : [b, a];
  const shared = Math.min(a.end, b.end) - Math.max(a.start, b.start);
  throw new InvalidArgumentError(
    `${op}: ${nameOf(first)} and ${nameOf(second)} overlap by ${shared} bytes, and the op writes to ${nameOf(first)}; give ` +
      "them separate memory (only the part that a rank sends to itself may already be in place: docs/tensors.md)",
    { op, argument: first.of.argument, code: "OVERLAPPING_TENSORS" },
  );
}

function nameOf({ of, i }: Operand): string {
  return of.argument.endsWith("s") ? `${of.argument}[${i}]` : of.argument;
}

/** All of a tensor. */
export function whole({ byteLength }: TensorView): Part {
  return { offset: 0, bytes: byteLength };
}

/** All of tensor `rank` of a list with one per rank. */
export function ofRank(rank: number): (view: TensorView, i: number) => Part | undefined {
  return (view, i) => (i === rank ? whole(view) : undefined);
}

/** One of the `size` equal parts of a tensor. */
export function partOf(rank: number, size: number): (view: TensorView) => Part {
  return ({ byteLength }) => ({ offset: (byteLength / size) * rank, bytes: byteLength / size });
}

/** Memory that one of several concurrent ops writes and reads. */
export interface MemoryUse {
  readonly op: string;
  readonly written: readonly TensorView[];
  readonly read: readonly TensorView[];
}

/** Throws when an op would write to memory that another one reads or writes: ops submitted together have no order. */
export function requireDisjointOps(caller: string, ops: readonly MemoryUse[]): void {
  const all = ops.flatMap(({ written, read }) => [...written, ...read]);
  const absolute = all.some(({ data }) => data === undefined);
  const uses = ops.flatMap(({ written, read }, at) => {
    const usesOf = (views: readonly TensorView[], isWritten: boolean) =>
      views.filter(({ byteLength }) => byteLength > 0).map((view) => ({ ...extentOf(view, absolute), at, isWritten }));
    return [...usesOf(written, true), ...usesOf(read, false)];
  });
  for (const inSpace of Map.groupBy(uses, ({ space }) => space).values()) {
    inSpace.sort((a, b) => a.start - b.start);
    // Earlier extents that reach as far as this one.
    let written: typeof inSpace = [];
    let read: typeof inSpace = [];
    for (const each of inSpace) {
      written = written.filter(({ end }) => end > each.start);
      if (each.isWritten) read = read.filter(({ end }) => end > each.start);
      const other = [...written, ...(each.isWritten ? read : [])].find(({ at }) => at !== each.at);
      if (other !== undefined) refuseOps(caller, ops, other, each);
      (each.isWritten ? written : read).push(each);
    }
  }
}

function refuseOps(
  caller: string,
  ops: readonly MemoryUse[],
  a: Extent & { readonly at: number },
  b: Extent & { readonly at: number },
): never {
  const [first, second] = [a.at, b.at].sort((i, j) => i - j).map((at) => `op ${at} (${ops[at]?.op})`);
  const shared = Math.min(a.end, b.end) - Math.max(a.start, b.start);
  throw new InvalidArgumentError(
    `${caller}: ${first} and ${second} overlap by ${shared} bytes, and one of them writes there; ops that are submitted together ` +
      "run concurrently: give them separate memory, or call the second after the first has ended",
    { op: caller, code: "OVERLAPPING_TENSORS" },
  );
}
