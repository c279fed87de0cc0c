import { DistBackendError, type DistError, InvalidArgumentError } from "../../errors/index.ts";
import { viewTensor } from "../../tensor/index.ts";
import { AllOf, type Steps, sourceOf } from "../../work/index.ts";
import type { SubmitStep } from "../steps/submit-step.ts";
import type * as ObjectCodec from "./object-codec.ts";

/** Loaded on first use, since that takes 6 ms, and synchronously, since objects are encoded during the call. */
const objectCodec = (): typeof ObjectCodec => require("./object-codec.ts");

/** Announced instead of a size by a rank whose object cannot be encoded, so that no rank waits for it. */
const NOT_ENCODED = -1;

/** One call of an object collective. */
export interface ObjectCall {
  readonly op: string;
  readonly rank: number;
  readonly size: number;
  /** Size limit of one object in bytes, the same on all ranks. */
  readonly maxBytes: number;
  readonly submit: SubmitStep;
}

/** An encoded object of this rank, or why it could not be encoded. */
export type PackedObject =
  | { readonly bytes: Uint8Array<ArrayBuffer>; readonly error?: undefined }
  | { readonly bytes?: undefined; readonly error: DistError };

/** Encodes an object of this rank, which the caller may change afterwards. */
export function packObject(op: string, maxBytes: number, object: unknown): PackedObject {
  try {
    return { bytes: objectCodec().encodeObject(object, maxBytes) };
  } catch (error) {
    if (!(error instanceof InvalidArgumentError)) throw error;
    const { code, cause } = error;
    return { error: new InvalidArgumentError(`${op}: ${error.message}`, { op, code, cause }) };
  }
}

/** Gathers the objects of all ranks on every rank. */
export function* allGatherObjects(call: ObjectCall, packed: PackedObject): Steps<unknown[]> {
  const sizes = yield* sizesOfAll(call, packed);
  const longest = Math.max(...sizes);
  const all = new Uint8Array(longest * call.size);
  yield call.submit("allGatherIntoTensor", [view(padded(packed.bytes, longest))], [view(all)]);
  return sizes.map((size, rank) => {
    return decode(call, all.subarray(rank * longest, rank * longest + size), rank);
  });
}

/** Gathers the objects of all ranks on the root; returns nothing elsewhere. */
export function* gatherObjects(call: ObjectCall, packed: PackedObject, root: number): Steps<unknown[] | undefined> {
  const sizes = yield* sizesOfAll(call, packed);
  const longest = Math.max(...sizes);
  const isRoot = call.rank === root;
  const parts = isRoot ? sizes.map(() => new Uint8Array(longest)) : [];
  yield call.submit("gather", [view(padded(packed.bytes, longest))], parts.map(view), { root });
  if (!isRoot) return undefined;
  return parts.map((part, rank) => decode(call, part.subarray(0, sizes[rank]), rank));
}

/**
 * Copies the root's object to all ranks.
 * @param packed On the root only.
 */
export function* broadcastObject(call: ObjectCall, packed: PackedObject | undefined, root: number): Steps<unknown> {
  const sizes = BigInt64Array.of(sizeOf(packed));
  yield call.submit("broadcast", [], [view(sizes)], { root });
  const [size = 0] = requireSizes(call, sizes, packed, root);
  const bytes = packed?.bytes ?? new Uint8Array(size);
  yield call.submit("broadcast", [], [view(bytes)], { root });
  // The root gets a copy, too, like the others.
  return decode(call, bytes, root);
}

/**
 * Scatters the root's objects.
 * @param packed One object per rank, on the root only.
 */
export function* scatterObjects(
  call: ObjectCall,
  packed: readonly PackedObject[] | undefined,
  root: number,
): Steps<unknown> {
  const sizes = new BigInt64Array(call.size);
  packed?.forEach((each, rank) => {
    sizes[rank] = sizeOf(each);
  });
  yield call.submit("broadcast", [], [view(sizes)], { root });
  const refused = packed?.find(({ bytes }) => bytes === undefined);
  const known = requireSizes(call, sizes, refused, root);
  const longest = Math.max(...known);
  const inputs = packed?.map(({ bytes }) => view(padded(bytes, longest))) ?? [];
  const own = new Uint8Array(longest);
  yield call.submit("scatter", inputs, [view(own)], { root });
  return decode(call, own.subarray(0, known[call.rank]), root);
}

/** Sends an object to one rank. */
export function* sendObject(call: ObjectCall, packed: PackedObject, peer: number, tag: number): Steps<void> {
  const size = call.submit("send", [view(BigInt64Array.of(sizeOf(packed)))], [], { peer, tag });
  if (packed.bytes === undefined) {
    yield size;
    throw packed.error;
  }
  const { opType } = size;
  yield new AllOf([size, call.submit("send", [view(packed.bytes)], [], { peer, tag })], { opType });
}

/**
 * Receives an object.
 * @param cameFrom Called with the group rank of the source as soon as that is known.
 */
export function* recvObject(
  call: ObjectCall,
  peer: number,
  tag: number,
  cameFrom: (groupRank: number) => void,
): Steps<unknown> {
  const sizes = new BigInt64Array(1);
  const announced = call.submit("recv", [], [view(sizes)], { peer, tag });
  yield announced;
  const source = peer < 0 ? sourceOf(announced) : peer;
  cameFrom(source);
  const [size = 0] = requireSizes(call, sizes, undefined, source);
  const bytes = new Uint8Array(size);
  yield call.submit("recv", [], [view(bytes)], { peer: source, tag });
  return decode(call, bytes, source);
}

const view = (array: Uint8Array | BigInt64Array) => viewTensor(array, "object");

function decode({ op, maxBytes }: ObjectCall, bytes: Uint8Array, rank: number): unknown {
  return objectCodec().decodeObject(op, bytes, rank, maxBytes);
}

function sizeOf(packed: PackedObject | undefined): bigint {
  return packed === undefined ? 0n : BigInt(packed.bytes?.byteLength ?? NOT_ENCODED);
}

/** Exchanges the sizes of the objects of all ranks. */
function* sizesOfAll(call: ObjectCall, packed: PackedObject): Steps<number[]> {
  const sizes = new BigInt64Array(call.size);
  yield call.submit("allGatherIntoTensor", [view(BigInt64Array.of(sizeOf(packed)))], [view(sizes)]);
  return requireSizes(call, sizes, packed);
}

/**
 * The announced sizes, if all are in bounds. All ranks see the same sizes, so either all continue or none does.
 * @param root The rank that announced all of them, if it was a single one.
 */
function requireSizes(
  { op, maxBytes }: ObjectCall,
  announced: BigInt64Array,
  packed: PackedObject | undefined,
  root?: number,
): number[] {
  if (packed !== undefined && packed.bytes === undefined) throw packed.error;
  return Array.from(announced, (size, i) => {
    if (size >= 0n && size <= maxBytes) return Number(size);
    const rank = root ?? i;
    const reason =
      size === BigInt(NOT_ENCODED)
        ? "cannot encode its object; its own error says why"
        : `announces an object of ${size} bytes, the limit is ${maxBytes}`;
    throw new DistBackendError(`${op}: rank ${rank} ${reason}`, { op, code: "OBJECT_REFUSED", peers: [rank] });
  });
}

function padded(bytes: Uint8Array | undefined, length: number): Uint8Array {
  if (bytes?.byteLength === length) return bytes;
  const whole = new Uint8Array(length);
  if (bytes !== undefined) whole.set(bytes);
  return whole;
}
