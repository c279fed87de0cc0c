import { DistBackendError, type DistError, InvalidArgumentError } from "../errors/index.ts";
import type { Backend, OpOptions } from "../registry/index.ts";
import { viewTensor } from "../tensor/index.ts";
import type * as ObjectCodec from "./object-codec.ts";

/** Loaded at the first use, which takes 6 ms, and synchronously, since objects are encoded at the call. */
const objectCodec = (): typeof ObjectCodec => require("./object-codec.ts");

/** What is announced instead of a size by a rank whose object cannot be encoded, so that nobody waits for it. */
const NOT_ENCODED = -1;

/** One call of an object collective. */
export interface ObjectCall {
  readonly op: string;
  readonly backend: Backend;
  /** Limit of one object, in bytes; alike on all ranks. */
  readonly maxBytes: number;
  /** Moment at which the time of the call is over, as `performance.now()` counts. */
  readonly deadline: number;
}

/** An own object in its encoding, or why there is none. */
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

/** The objects of all ranks, on all. */
export async function allGatherObjects(call: ObjectCall, packed: PackedObject): Promise<unknown[]> {
  const { backend } = call;
  const { bytes, sizes } = await announceToAll(call, packed);
  const longest = Math.max(...sizes);
  const all = new Uint8Array(longest * backend.size);
  await backend.allGatherIntoTensor(view(all), view(padded(bytes, longest)), limits(call));
  return sizes.map((size, rank) => {
    return decode(call, all.subarray(rank * longest, rank * longest + size), rank);
  });
}

/** The objects of all ranks on the root, nothing elsewhere. */
export async function gatherObjects(
  call: ObjectCall,
  packed: PackedObject,
  root: number,
): Promise<unknown[] | undefined> {
  const { backend } = call;
  const { bytes, sizes } = await announceToAll(call, packed);
  const longest = Math.max(...sizes);
  const parts = backend.rank === root ? sizes.map(() => new Uint8Array(longest)) : [];
  await backend.gather(parts.map(view), view(padded(bytes, longest)), { root, ...limits(call) });
  if (backend.rank !== root) return undefined;
  return parts.map((part, rank) => decode(call, part.subarray(0, sizes[rank]), rank));
}

/**
 * The root's object, on all ranks.
 * @param packed On the root only.
 */
export async function broadcastObject(
  call: ObjectCall,
  packed: PackedObject | undefined,
  root: number,
): Promise<unknown> {
  const { backend } = call;
  const sizes = BigInt64Array.of(sizeOf(packed));
  await backend.broadcast(view(sizes), { root, ...limits(call) });
  const [size = 0] = requireSizes(call, sizes, packed, root);
  const bytes = packed?.bytes ?? new Uint8Array(size);
  await backend.broadcast(view(bytes), { root, ...limits(call) });
  // The root gets a copy too, as the others do.
  return decode(call, bytes, root);
}

/**
 * The root's object for this rank.
 * @param packed Those of all ranks, on the root only.
 */
export async function scatterObjects(
  call: ObjectCall,
  packed: readonly PackedObject[] | undefined,
  root: number,
): Promise<unknown> {
  const { backend } = call;
  const sizes = new BigInt64Array(backend.size);
  packed?.forEach((each, rank) => {
    sizes[rank] = sizeOf(each);
  });
  await backend.broadcast(view(sizes), { root, ...limits(call) });
  const known = requireSizes(
    call,
    sizes,
    packed?.find(({ bytes }) => bytes === undefined),
    root,
  );
  const longest = Math.max(...known);
  const inputs = packed?.map(({ bytes }) => view(padded(bytes, longest))) ?? [];
  const own = new Uint8Array(longest);
  await backend.scatter(view(own), inputs, { root, ...limits(call) });
  return decode(call, own.subarray(0, known[backend.rank]), root);
}

/** Sends an object to one rank. */
export async function sendObject(call: ObjectCall, packed: PackedObject, peer: number, tag: number): Promise<void> {
  const { backend } = call;
  const size = backend.send(view(BigInt64Array.of(sizeOf(packed))), { peer, tag, ...limits(call) });
  if (packed.bytes === undefined) {
    await size;
    throw packed.error;
  }
  await Promise.all([size, backend.send(view(packed.bytes), { peer, tag, ...limits(call) })]);
}

/** Receives an object; tells in which rank of the group it comes from, too. */
export async function recvObject(
  call: ObjectCall,
  peer: number,
  tag: number,
  groupRankOf: (globalRank: number) => number,
): Promise<unknown> {
  const { backend } = call;
  const sizes = new BigInt64Array(1);
  const announced = backend.recv(view(sizes), { peer, tag, ...limits(call) });
  await announced;
  const source = peer < 0 ? groupRankOf(announced.sourceRank()) : peer;
  const [size = 0] = requireSizes(call, sizes, undefined, source);
  const bytes = new Uint8Array(size);
  await backend.recv(view(bytes), { peer: source, tag, ...limits(call) });
  return decode(call, bytes, source);
}

const view = (array: Uint8Array | BigInt64Array) => viewTensor(array, "object");

/** What is left of the time of the call. */
function limits({ deadline }: ObjectCall): OpOptions {
  return { timeoutMs: Math.max(1, deadline - performance.now()) };
}

function decode({ op, maxBytes }: ObjectCall, bytes: Uint8Array, rank: number): unknown {
  return objectCodec().decodeObject(op, bytes, rank, maxBytes);
}

function sizeOf(packed: PackedObject | undefined): bigint {
  return packed === undefined ? 0n : BigInt(packed.bytes?.byteLength ?? NOT_ENCODED);
}

/** Tells all ranks the sizes of all objects. */
async function announceToAll(
  call: ObjectCall,
  packed: PackedObject,
): Promise<{ bytes: Uint8Array | undefined; sizes: number[] }> {
  const { backend } = call;
  const sizes = new BigInt64Array(backend.size);
  await backend.allGatherIntoTensor(view(sizes), view(BigInt64Array.of(sizeOf(packed))), limits(call));
  return { bytes: packed.bytes, sizes: requireSizes(call, sizes, packed) };
}

/**
 * The announced sizes, if all are in bounds. All ranks see the same ones, so either all go on or none does.
 * @param root The rank that announced them all, if it was one rank.
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
