import { describeNumber, InvalidArgumentError } from "../errors/index.ts";
import type { ProcessGroup } from "../process-group/index.ts";
import { type DType, empty, type TensorLike, type TensorStorage, viewTensor } from "../tensor/index.ts";
import { computeBucketAssignmentBySize } from "./bucket-assignment.ts";
import { copyElements, partOfStorage } from "./elements.ts";
import { storageOf } from "./parameter.ts";

/** Broadcasts that may be in flight at a time, so that memory for no more is needed. */
const IN_FLIGHT = 2;

/** Tensors that are broadcast as one. */
interface Flattened {
  readonly parts: readonly { readonly own: TensorStorage; readonly flat: TensorStorage }[];
  readonly dtype: DType;
  readonly work: PromiseLike<unknown>;
}

/**
 * Copies tensors of one rank to all ranks, in place. Tensors of one dtype are sent together.
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
  const storages = tensors.map((tensor, i) => storageOf(tensor, `tensors[${i}]`));
  const [buckets] = computeBucketAssignmentBySize(tensors, [bufferSize]);
  const inFlight: Flattened[] = [];
  const finish = async (): Promise<void> => {
    const { work, parts, dtype } = inFlight[0] as Flattened;
    await work;
    inFlight.shift();
    if (group.rank !== src) for (const { own, flat } of parts) copyElements(own, dtype, flat, dtype);
  };
  try {
    for (const members of buckets) {
      const all = members.map((i) => ({
        view: viewTensor(tensors[i] as TensorLike),
        own: storages[i] as TensorStorage,
      }));
      const dtype = all[0]?.view.dtype ?? "float32";
      const buffer = empty(
        dtype,
        all.reduce((sum, { view }) => sum + view.length, 0),
      );
      let start = 0;
      const parts = all.map(({ view, own }) => {
        const flat = partOfStorage(storageOf(buffer, "buffer"), dtype, start, view.length);
        start += view.length;
        if (group.rank === src) copyElements(flat, dtype, own, dtype);
        return { own, flat };
      });
      inFlight.push({ parts, dtype, work: group.broadcast(buffer, { groupSrc: src }) });
      if (inFlight.length >= IN_FLIGHT) await finish();
    }
    while (inFlight.length > 0) await finish();
  } catch (error) {
    // The others fail with their group; their errors are observed here.
    await Promise.allSettled(inFlight.map(({ work }) => work));
    throw error;
  }
}
