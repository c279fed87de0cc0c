import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { missing as missingMpi } from "../../src/backends/mpi/fixtures/availability.ts";
import { describeUcc, spawn as uccSpawn } from "../../src/backends/ucc/fixtures/availability.ts";
import { expectRanks, saidBy, script } from "./ranks.ts";
import { SlurmCluster } from "./slurm-cluster.ts";

setDefaultTimeout(60_000);

const bun = process.execPath;
const required = process.env.C10D_REQUIRE_SLURM === "1";
const wanted = required || process.env.C10D_SWEEP === "full";
const impossible = wanted ? await SlurmCluster.impossible() : "only with C10D_SWEEP=full, after ./bootstrap deps slurm";
if (impossible !== undefined) console.log(`skip tests with Slurm (packages slurm-wlm, munge): ${impossible}`);

test.skipIf(impossible !== undefined && !required)("this machine can run a Slurm cluster", () => {
  expect(impossible).toBeUndefined();
});

describe.skipIf(impossible !== undefined)("under Slurm", () => {
  let slurm: SlurmCluster;
  beforeAll(async () => {
    slurm = await SlurmCluster.make();
  });
  afterAll(async () => {
    await slurm?.[Symbol.asyncDispose]();
  });
  /** Four tasks on one node, or two on each of two. */
  const on = (nodes: number) => (nodes === 1 ? "-w n1 -n 4" : "-N 2 --ntasks-per-node 2");
  const srun = (flags: string, ...program: readonly string[]) => slurm.run(["srun", ...flags.split(" "), ...program]);

  test.each(["none", "pmi2", "pmix"])("tasks on one node meet repeatedly (--mpi=%s)", async (protocol) => {
    const end = await srun(`--mpi=${protocol} -w n1 -n 3`, bun, script, "gloo", "3");
    expectRanks(end, ["n1", "n1", "n1"], 3);
    expect(saidBy(end).map(({ local }) => local)).toEqual([0, 1, 2, 0, 1, 2, 0, 1, 2]);
  });

  test("tasks on two nodes meet repeatedly through PMI-2", async () => {
    const end = await srun("--mpi=pmi2 -N 2 --ntasks-per-node 2", bun, script, "gloo", "3");
    expectRanks(end, ["n1", "n1", "n2", "n2"], 3);
    expect(saidBy(end).map(({ local }) => local)).toEqual([0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1]);
  });

  test("tasks on two nodes without it say what to do", async () => {
    const { exitCode, stderr } = await srun("-N 2 -n 2", bun, script);
    expect(exitCode).toBe(1);
    expect(stderr).toContain("Slurm's srun does not tell the ranks where they meet: srun --mpi=pmi2");
  });

  test("concurrent jobs do not mix", async () => {
    const jobs = ["-w n1 -n 2", "-w n1 -n 3", "--mpi=pmi2 -N 2 -n 2"].map((flags) =>
      srun(flags, bun, script, "gloo", "2"),
    );
    const sizes = (await Promise.all(jobs)).map((end) => saidBy(end).map((said) => said));
    expect(sizes.map((said) => said.length)).toEqual([4, 6, 4]);
    for (const [i, size] of [2, 3, 2].entries()) {
      expect(sizes[i]).toEqual(sizes[i]?.map((said) => expect.objectContaining({ ...said, size })) ?? []);
    }
  });

  test("a step after one that was killed does not see what that one left behind", async () => {
    const step = (end: string) => `srun --kill-on-bad-exit=1 -n 2 '${bun}' '${script}' gloo 1 ${end}\n`;
    const { stdout, ...end } = await slurm.batch("-w n1 -n 2", `${step("killed")}echo "code $?"\n${step("")}`);
    const [killed = "", after = ""] = stdout.split(/^code 137$/m);
    expect(killed).toContain("Killed");
    expectRanks({ ...end, stdout: after }, ["n1", "n1"]);
  });

  test("a batch script that starts its ranks without srun is an error that says so", async () => {
    const { exitCode, stdout } = await slurm.batch("-n 2", `'${bun}' '${script}'`);
    expect(exitCode).toBe(1);
    expect(stdout).toContain("but is not one of its tasks: start the ranks with `srun bun script.ts`");
  });

  test("docs/launching.md: in a batch script, with the address of the store", async () => {
    const page = readFileSync(resolve(import.meta.dir, "../../docs/launching.md"), "utf8");
    const block = /^```sh\n(export MASTER_ADDR[\s\S]*?)^```/m.exec(page)?.[1] ?? "";
    const commands = block.replace("srun -n 2 bun sum.ts", `srun -n 3 '${bun}' '${script}'`);
    expect(commands).not.toBe(block);
    expectRanks(await slurm.batch("-N 2 --ntasks-per-node 2", commands), ["n1", "n1", "n2"]);
  });

  for (const [implementation, protocol] of [
    ["openmpi", "pmix"],
    ["mpich", "pmi2"],
  ] as const) {
    const reason = missingMpi(implementation);
    if (reason !== undefined) console.log(`skip mpi under Slurm: ${reason}`);
    describe.skipIf(reason !== undefined)(`the mpi backend, ${implementation}`, () => {
      test.each([1, 2])(`--mpi=${protocol} on %d nodes`, async (nodes) => {
        const end = await srun(`--mpi=${protocol} ${on(nodes)}`, bun, script, "mpi");
        expectRanks(end, nodes === 1 ? ["n1", "n1", "n1", "n1"] : ["n1", "n1", "n2", "n2"]);
      });

      test("mpirun starts the tasks of the job on both nodes", async () => {
        const asRoot = { OMPI_ALLOW_RUN_AS_ROOT: "1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: "1" };
        const mpirun = `mpirun.${implementation} -n 4 '${bun}' '${script}' mpi`;
        expectRanks(await slurm.batch("-N 2 --ntasks-per-node 2", mpirun, asRoot), ["n1", "n1", "n2", "n2"]);
      });

      test("without the protocol every task says so", async () => {
        const { exitCode, stderr } = await srun("--mpi=none -n 2", bun, script, "mpi");
        expect(exitCode).toBe(1);
        expect(stderr).toContain("srun has started 2 tasks, but not by the protocol of this MPI");
      });
    });
  }

  describeUcc("the ucc backend", () => {
    const runtime = uccSpawn.runtime ?? [bun];
    test.each([1, 2])("on %d nodes", async (nodes) => {
      const end = await srun(`--mpi=pmi2 ${on(nodes)}`, ...runtime, script, "ucc");
      expectRanks(end, nodes === 1 ? ["n1", "n1", "n1", "n1"] : ["n1", "n1", "n2", "n2"]);
    });
  });
});
