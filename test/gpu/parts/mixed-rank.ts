// mixed-rank.ts DEVICE [WORD…]: mixed-rank.py with this library: cuda:0 and so on, by NCCL, or cpu, by Gloo. Words: needs of
// steps that are left out; eager, to bind the group to the device. Rank, size and store are those of env://. Prints a line
// for each step, ends with 1 if one failed.
import * as dist from "../../../src/index.ts";
import { exchange, isNeed } from "../exchange.ts";
import { placeOf } from "../tensor-place.ts";

const [device = "cpu", ...words] = Bun.argv.slice(2);
const without = words.filter(isNeed);
const bound = words.includes("eager") ? { deviceId: device } : {};
const onGpu = device !== "cpu";
const group = await dist.initProcessGroup({ backend: onGpu ? "nccl" : "gloo", timeout: "40s", ...bound });
const steps = await exchange(placeOf(device), onGpu ? without : ["nccl", ...without]);
for (const { name, wrong } of steps) console.log(wrong === undefined ? `ok ${name}` : `WRONG ${name}: ${wrong}`);
await dist.destroyProcessGroup(group);
process.exitCode = steps.some(({ wrong }) => wrong !== undefined) ? 1 : 0;
