import { expect, test } from "bun:test";
import * as dist from "../index.ts";
import { localRanks } from "../testing/index.ts";
import { broadcastCoalesced } from "./broadcast-coalesced.ts";

test("copies tensors of any dtypes and sizes, in few broadcasts of which two are in flight", async () => {
  const inFlight = await localRanks(3, async ({ rank, group }) => {
    const lengths = [5, 1, 0, 300, 7, 2];
    const tensors = lengths.flatMap((length, i) => [
      new Float32Array(length).fill(rank * 10 + i),
      dist.tensor(new Array<number>(length).fill(rank + i), { dtype: "bfloat16" }),
      new BigInt64Array(length).fill(BigInt(rank - i)),
    ]);
    let most = 0;
    using _ = group.registerHook({
      pre: ({ op }) => {
        expect(op).toBe("broadcast");
        most = Math.max(most, group.inFlight + 1);
      },
    });
    await broadcastCoalesced(group, tensors, 64, 2);
    for (const [i, length] of lengths.entries()) {
      expect(tensors[3 * i]).toEqual(new Float32Array(length).fill(20 + i));
      expect((tensors[3 * i + 1] as dist.Tensor).toNumbers()).toEqual(new Array<number>(length).fill(2 + i));
      expect(tensors[3 * i + 2]).toEqual(new BigInt64Array(length).fill(BigInt(2 - i)));
    }
    await broadcastCoalesced(group, [], 64);
    await expect(broadcastCoalesced(group, tensors, 64, 3)).rejects.toThrow(
      "src must be a rank of the group, 0 to 2, got 3",
    );
    await expect(broadcastCoalesced(group, tensors, 0)).rejects.toThrow("a limit is at least 1 byte");
    return most;
  });
  // The last rank to call has none in flight.
  expect(Math.max(...inFlight)).toBe(2);
});
