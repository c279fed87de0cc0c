import { describeNumber, InvalidArgumentError } from "../errors/index.ts";
import type { ProcessGroup } from "../process-group/index.ts";
import { type TensorLike, viewTensor } from "../tensor/index.ts";
import { computeBucketAssignmentBySize } from "./bucket-assignment.ts";
import { isOnDevice } from "./device-limits.ts";
import { type FlatTensor, flatten } from "./memory/flat-tensor.ts";
import { storageOf } from "./parameter.ts";

/** Broadcasts that may be in flight at a time, so that memory for no more is needed. */
const IN_FLIGHT = 2;

/** Tensors that are broadcast as one. */
interface Flattened {
  readonly flat: FlatTensor;
  readonly work: PromiseLike<unknown>;
}

/**
 * Copies tensors of one rank to all ranks, in place. Tensors of one dtype and device are sent together.
 * On a device, copies are in the stream that is current at the call.
 *
 * @param bufferSize About how many bytes are sent at a time.
 * @param src Rank in the group whose tensors are copied. 0 by default.
 * @throws DistError when a broadcast fails; then some tensors may have been replaced.
 *
 * c10d: `_broadcast_coalesced`.
 */
export async function broadcastCoalesced(
  group: ProcessGroup,
  tensors: readonly TensorLike[],
  bufferSize: number,
  src = 0,
): Promise<void> {
  if (tensors.length === 0) return;
  if (!Number.isInteger(src) || src < 0 || src >= group.size) {
    throw new InvalidArgumentError(
      `broadcastCoalesced(): src must be a rank of the group, 0 to ${group.size - 1}, got ${describeNumber(src)}`,
      { argument: "src" },
    );
  }
  // All are checked before the first is sent.
  for (const [i, tensor] of tensors.entries()) {
    const name = `tensors[${i}]`;
    if (!isOnDevice(viewTensor(tensor, name))) storageOf(tensor, name);
  }
  const [buckets] = computeBucketAssignmentBySize(tensors, [bufferSize]);
  const inFlight: Flattened[] = [];
  const finish = async (): Promise<void> => {
    const { work, flat } = inFlight[0] as Flattened;
    await work;
    inFlight.shift();
    if (group.rank !== src) flat.scatter();
    flat[Symbol.dispose]();
  };
  try {
    for (const members of buckets) {
      const flat = flatten(members.map((i) => tensors[i] as TensorLike));
      if (group.rank === src) flat.gather();
      inFlight.push({ flat, work: flat.run(() => group.broadcast(flat.buffer, { groupSrc: src })) });
      if (inFlight.length >= IN_FLIGHT) await finish();
    }
    while (inFlight.length > 0) await finish();
  } catch (error) {
    // The others fail with their group; their errors are observed here.
    await Promise.allSettled(inFlight.map(({ work }) => work));
    throw error;
  }
}
