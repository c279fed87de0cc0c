import { expect, setDefaultTimeout, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describeMpi, launcherCommand } from "./fixtures/availability.ts";
import { fixture, run } from "./fixtures/launch.ts";

setDefaultTimeout(60_000);

const bun = [process.execPath, fixture("mixed-rank.ts")];
const libraries = process.env.C10D_NATIVE_DIR ?? fileURLToPath(new URL("../../../build/release/lib", import.meta.url));
const inC = (implementation: string): string => {
  const program = join(libraries, `../bin/mpi_mixed_rank_${implementation}`);
  if (!existsSync(program)) throw new Error(`${program} is not built: ./bootstrap test builds it`);
  return program;
};

/** Not by line: the launcher may join lines of two ranks. */
const wellRanks = (output: string): string[] => (output.match(/(Bun|C|Python) rank \d of \d: well/g) ?? []).sort();

describeMpi("mixed job", "openmpi", () => {
  test("2 ranks in Bun, one in Python with mpi4py, one in C", async () => {
    const python = ["/usr/bin/python3", fixture("mixed_rank.py")];
    const command = ["-n", "2", ...bun, ":", "-n", "1", ...python, ":", "-n", "1", inC("openmpi")];
    const { exitCode, output } = await run([...launcherCommand("openmpi"), ...command]);
    const well = wellRanks(output);
    expect({ exitCode, well, output: exitCode === 0 ? "" : output }).toEqual({
      exitCode: 0,
      well: ["Bun rank 0 of 4: well", "Bun rank 1 of 4: well", "C rank 3 of 4: well", "Python rank 2 of 4: well"],
      output: "",
    });
  });

  test("a rank that receives more than it has room for fails with a desync", async () => {
    const command = ["-n", "2", process.execPath, fixture("mixed-sizes.ts")];
    const { exitCode, output } = await run([...launcherCommand("openmpi"), ...command]);
    expect({ exitCode, output: exitCode === 0 ? "" : output }).toEqual({ exitCode: 0, output: "" });
    expect(output).toContain("rank 1 received more data than it expected: the ranks' tensors differ in size");
  });
});

describeMpi("mixed job", "mpich", () => {
  test("2 ranks in Bun, 2 in C", async () => {
    const command = ["-n", "2", ...bun, ":", "-n", "2", inC("mpich")];
    const { exitCode, output } = await run([...launcherCommand("mpich"), ...command]);
    const well = wellRanks(output);
    expect({ exitCode, well, output: exitCode === 0 ? "" : output }).toEqual({
      exitCode: 0,
      well: ["Bun rank 0 of 4: well", "Bun rank 1 of 4: well", "C rank 2 of 4: well", "C rank 3 of 4: well"],
      output: "",
    });
  });
});
