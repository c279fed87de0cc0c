/** Prints the wall-clock time, in milliseconds, at which the first all-reduce of this process ended. */
import * as dist from "bun-c10d";

await using _group = await dist.initProcessGroup({ timeout: "30s" });
const tensor = new Float32Array([dist.getRank() + 1]);
await dist.allReduce(tensor);
console.log(performance.timeOrigin + performance.now());
if (tensor[0] !== 3) throw new Error(`wrong sum: ${tensor[0]}`);
