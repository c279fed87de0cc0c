// The conformance suite, one rank: all that one GPU can show of an op's arguments, order and memory.

import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { runChild } from "../children.ts";
import { testsOf } from "../junit.ts";
import { runPart, Skipped } from "../part.ts";

await runPart(async ({ devices = [] }) => {
  if (devices.length === 0) throw new Skipped("no device");
  const folder = tmpdir();
  const report = join(folder, `conformance-${process.pid}.xml`);
  const suite = fileURLToPath(new URL("../conformance-suite.ts", import.meta.url));
  const ending = await runChild({
    command: [process.execPath, "test", suite, "--reporter=junit", `--reporter-outfile=${report}`],
    env: { C10D_GPU_WORLD_SIZES: "1", NO_COLOR: "1" },
    limitMs: 110_000,
    log: join(folder, `conformance-${process.pid}.log`),
  });
  process.stdout.write(ending.output);
  const { passed, skipped, failed } = testsOf(report);
  const outcome = ending.code === 0 && failed.length === 0 && passed > 0 ? "passed" : "failed";
  const lines = [`${passed} passed, ${failed.length} failed, ${skipped} skipped`, ...failed.slice(0, 40)];
  return { outcome, lines, figures: { passed, skipped, failed } };
});
