// mixed-rank.ts DEVICE [WITHOUT…]: mixed-rank.py with this library: cuda:0 and so on, by NCCL, or cpu, by Gloo. Rank, size and store
// are those of env://. Prints a line for each step, ends with 1 if one failed.
import * as dist from "../../../src/index.ts";
import { exchange, type Need } from "../exchange.ts";
import { placeOf } from "../tensor-place.ts";

const [device = "cpu", ...without] = Bun.argv.slice(2) as [string?, ...Need[]];
const onGpu = device !== "cpu";
const group = await dist.initProcessGroup({ backend: onGpu ? "nccl" : "gloo", timeout: "40s" });
const steps = await exchange(placeOf(device), onGpu ? without : ["nccl", ...without]);
for (const { name, wrong } of steps) console.log(wrong === undefined ? `ok ${name}` : `WRONG ${name}: ${wrong}`);
await dist.destroyProcessGroup(group);
process.exitCode = steps.some(({ wrong }) => wrong !== undefined) ? 1 : 0;
