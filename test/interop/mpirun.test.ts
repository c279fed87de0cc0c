import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { mpirun } from "./mpi.ts";
import { fixture } from "./torch.ts";

setDefaultTimeout(60_000);

/** A port that was free just now. */
function freePort(): number {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = listener;
  listener.stop(true);
  return port;
}

/** Runs three ranks of a script, which write their results to files. */
async function launch(program: string, env: Readonly<Record<string, string>>, args: readonly string[] = []) {
  const folder = mkdtempSync(join(tmpdir(), "c10d-mpirun-"));
  const results = join(folder, "results");
  mkdirSync(results);
  try {
    const child = Bun.spawn([program, "-n", "3", process.execPath, fixture("launched-rank.ts"), ...args], {
      env: {
        ...process.env,
        NO_COLOR: "1",
        C10D_STORE_SECRET: "for this test",
        RESULT_FOLDER: results,
        OMPI_ALLOW_RUN_AS_ROOT: "1",
        OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: "1",
        OMPI_MCA_rmaps_base_oversubscribe: "1",
        OMPI_MCA_orte_tmpdir_base: folder,
        ...env,
      },
      stdin: "ignore",
      stdout: "ignore",
      stderr: "pipe",
      timeout: 30_000,
      killSignal: "SIGKILL",
    });
    const [stderr, exitCode] = await Promise.all([child.stderr.text(), child.exited]);
    const files = readdirSync(results).sort();
    return { exitCode, stderr, reports: files.map((name) => JSON.parse(readFileSync(join(results, name), "utf8"))) };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const launchers = [
  ["Open MPI", "C10D_REQUIRE_MPIRUN", "openmpi-bin", "Open MPI's mpirun", "mpirun -x MASTER_ADDR="],
  ["MPICH", "C10D_REQUIRE_MPICH", "mpich", "MPICH's mpiexec", "mpiexec -genv MASTER_ADDR "],
] as const;

for (const [implementation, required, debianPackage, launcher, remedy] of launchers) {
  const program = mpirun(implementation);
  const skipped = program === undefined && process.env[required] !== "1";
  if (skipped) console.log(`skip ${implementation}: its launcher is not installed (package ${debianPackage})`);

  describe.skipIf(skipped)(implementation, () => {
    test("its launcher is installed", () => {
      expect(program).toBeDefined();
    });

    test("a script runs unchanged", async () => {
      const env = { MASTER_ADDR: "127.0.0.1", MASTER_PORT: String(freePort()) };
      const { exitCode, stderr, reports } = await launch(program ?? "", env);
      expect({ exitCode, stderr: exitCode === 0 ? "" : stderr }).toEqual({ exitCode: 0, stderr: "" });
      expect(reports).toEqual([0, 1, 2].map((rank) => ({ rank, size: 3, local: rank, sum: 6 })));
    });

    test("on one host ranks meet repeatedly without the address of a store", async () => {
      const { exitCode, stderr, reports } = await launch(program ?? "", { MASTER_ADDR: "", MASTER_PORT: "" }, ["3"]);
      expect({ exitCode, stderr: exitCode === 0 ? "" : stderr }).toEqual({ exitCode: 0, stderr: "" });
      expect(reports).toEqual([0, 1, 2].map((rank) => ({ rank, size: 3, local: rank, sum: 6 })));
    });

    test("with an incomplete address every rank fails at once and says what is missing", async () => {
      const started = performance.now();
      const { exitCode, stderr, reports } = await launch(program ?? "", { MASTER_ADDR: "", MASTER_PORT: "29500" });
      expect(exitCode).not.toBe(0);
      expect(reports).toEqual([]);
      expect(stderr).toContain(`variable MASTER_ADDR expected, but not set. ${launcher} does not tell the ranks`);
      expect(stderr).toContain(remedy);
      expect(performance.now() - started).toBeLessThan(20_000);
    });
  });
}
