// c10d run -n 2 examples/unit-test-swap/main.ts
import assert from "node:assert/strict";
import { runSurvey } from "./survey.ts";

const rank = Number(process.env.RANK ?? 0);
const worldSize = Number(process.env.WORLD_SIZE ?? 1);
// Rank r has r + 1 samples, all of them r.
const result = await runSurvey(new Float64Array(rank + 1).fill(rank));

const count = (worldSize * (worldSize + 1)) / 2;
const sum = Array.from({ length: worldSize }, (_, r) => r * (r + 1)).reduce((a, b) => a + b, 0);
assert.deepEqual(result, { count, mean: sum / count, smallest: 0, largest: worldSize - 1, richest: worldSize - 1 });
if (rank === 0) console.log(`${worldSize} ranks have ${count} samples, ${result.mean.toFixed(2)} on average`);
