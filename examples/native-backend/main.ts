// bun build.ts && c10d run -n 2 main.ts
import assert from "node:assert/strict";
import * as dist from "bun-c10d";
import shm from "./shm.ts";

dist.registerBackend(shm);
await dist.initProcessGroup({ backend: "shm" });
const rank = dist.getRank();
const worldSize = dist.getWorldSize();

const sum = new Float64Array(100_000).fill(rank);
await dist.allReduce(sum);
assert(sum.every((value) => value === (worldSize * (worldSize - 1)) / 2));

const largest = Int32Array.of(rank, -rank);
dist.allReduce(largest, { op: dist.ReduceOp.MAX }).wait(); // blocks, which a backend in TypeScript cannot do
assert.deepEqual([...largest], [worldSize - 1, 0]);

const ranks = new Int32Array(worldSize);
await dist.allGatherIntoTensor(ranks, Int32Array.of(rank));
assert.deepEqual(
  [...ranks],
  Array.from({ length: worldSize }, (_, each) => each),
);

await dist.barrier();
await dist.destroyProcessGroup();
if (rank === 0) console.log(`${worldSize} ranks shared memory`);
