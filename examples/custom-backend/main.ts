// c10d run -n 2 main.ts
import assert from "node:assert/strict";
import * as dist from "bun-c10d";
import sockets from "./sockets.ts";

dist.registerBackend(sockets);
await dist.initProcessGroup({ backend: "sockets" });
const rank = dist.getRank();
const worldSize = dist.getWorldSize();

const tensor = new Float32Array([rank, 1]);
await dist.allReduce(tensor);
assert.deepEqual([...tensor], [(worldSize * (worldSize - 1)) / 2, worldSize]);

const word = new TextEncoder().encode(rank === 0 ? "hello" : ".....");
await dist.broadcast(word, { src: 0 });
assert.equal(new TextDecoder().decode(word), "hello");

if (worldSize > 1) {
  const received = new Int32Array(1);
  const sending = dist.send(Int32Array.of(rank), { dst: (rank + 1) % worldSize });
  await dist.recv(received, { src: (rank + worldSize - 1) % worldSize });
  await sending;
  assert.equal(received[0], (rank + worldSize - 1) % worldSize);
}

await assert.rejects(async () => dist.reduce(tensor, { dst: 0 }), dist.UnsupportedOperationError);
await dist.barrier();
await dist.destroyProcessGroup();
if (rank === 0) console.log(`${worldSize} ranks summed, broadcast and passed messages on`);
