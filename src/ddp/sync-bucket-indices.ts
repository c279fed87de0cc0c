import { DistBackendError } from "../errors/index.ts";
import type { ProcessGroup } from "../process-group/index.ts";

/**
 * Gives all ranks the buckets of rank 0: the indices and their number are broadcast first, since all ranks know how many
 * indices there are, then the sizes of the buckets.
 */
export async function syncBucketIndices(
  group: ProcessGroup,
  own: readonly (readonly number[])[],
  parameterCount: number,
): Promise<number[][]> {
  const indices = new Int32Array(new SharedArrayBuffer(4 * (parameterCount + 1)));
  indices.set(own.flat());
  indices[parameterCount] = own.length;
  await group.broadcast(indices, { groupSrc: 0 });
  const count = indices[parameterCount] ?? 0;
  // Before memory is allocated for the sizes.
  if (count < 1 || count > parameterCount) throw senseless(`${count} buckets for ${parameterCount} parameters`);
  const sizes = new Int32Array(new SharedArrayBuffer(4 * count));
  for (let i = 0; i < count; i++) sizes[i] = own[Math.min(i, own.length - 1)]?.length ?? 0;
  await group.broadcast(sizes, { groupSrc: 0 });
  const buckets: number[][] = [];
  let start = 0;
  for (const size of sizes) {
    if (size < 1) throw senseless(`a bucket of ${size} parameters`);
    buckets.push([...indices.subarray(start, Math.min(start + size, parameterCount))]);
    start += size;
  }
  if (start !== parameterCount) throw senseless(`buckets for ${start} of ${parameterCount} parameters`);
  return buckets;
}

function senseless(what: string): DistBackendError {
  return new DistBackendError(`rank 0 has sent ${what}; do all ranks train the same model?`, {
    code: "PARAMETERS_DIFFER",
  });
}
