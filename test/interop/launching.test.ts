import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { mpirun } from "./mpi.ts";
import { torchPython } from "./torch.ts";

setDefaultTimeout(60_000);

// Runs the commands of docs/launching.md.

const root = resolve(import.meta.dir, "../..");
const page = readFileSync(join(root, "docs/launching.md"), "utf8");
const blocks = Array.from(page.matchAll(/^```(\w+)\n([\s\S]*?)^```/gm), ([, language = "", code = ""]) => ({
  language,
  code,
}));

/** Blocks of the page that tests have run. */
const ran = new Set<string>();

function block(start: string): string {
  const found = blocks.filter(({ language, code }) => language === "sh" && code.startsWith(start));
  const [only] = found;
  if (only === undefined || found.length > 1) throw new Error(`${found.length} blocks begin with ${start}`);
  ran.add(only.code);
  return only.code;
}

/** A port that was free just now. */
function freePort(): number {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = listener;
  listener.stop(true);
  return port;
}

const srun = `#!/bin/sh
# As Slurm starts the tasks of a job on one node.
[ "$1" = -n ] || exit 64
tasks=$2
shift 2
task=0
while [ $task -lt $tasks ]; do
  SLURM_JOB_ID=$$ SLURM_STEP_ID=0 SLURM_STEP_LAUNCHER_PORT=$PPID SLURM_STEP_NUM_NODES=1 SLURM_STEP_NUM_TASKS=$tasks \\
    SLURM_PROCID=$task SLURM_LOCALID=$task SLURM_NTASKS=$tasks "$@" &
  pids="$pids $!"
  task=$((task + 1))
done
for pid in $pids; do wait $pid || exit 1; done
`;
const scontrol = `#!/bin/sh
[ "$*" = "show hostnames node[1-2]" ] && printf '127.0.0.1\\n127.0.0.2\\n'
`;

const lines = (text: string) =>
  text
    .split("\n")
    .filter((line) => line.includes(" of "))
    .sort();
const oneNode = ["rank 0 of 2, local rank 0: 3", "rank 1 of 2, local rank 1: 3"];
const prefixed = oneNode.map((line, rank) => `[rank ${rank}] ${line}`);

let folder = "";
beforeAll(() => {
  mkdirSync(join(root, "build"), { recursive: true });
  folder = mkdtempSync(join(root, "build/launching-")); // inside the package, where its own name resolves
  const script = blocks.find(({ language }) => language === "ts");
  writeFileSync(join(folder, "sum.ts"), script?.code ?? "");
  const bin = join(folder, "bin");
  mkdirSync(bin);
  symlinkSync(process.execPath, join(bin, "bun"));
  const program = (name: string, text: string) => writeFileSync(join(bin, name), text, { mode: 0o755 });
  const call = (...words: readonly string[]) => `#!/bin/sh\nexec ${words.map((word) => `'${word}'`).join(" ")} "$@"\n`;
  program("c10d", call(process.execPath, join(root, "src/cli/main.ts")));
  program("srun", srun);
  program("scontrol", scontrol);
  const [openMpi, mpich, python] = [mpirun("Open MPI"), mpirun("MPICH"), torchPython()];
  if (openMpi) program("mpirun", call(openMpi));
  if (mpich) program("mpiexec", call(mpich));
  if (python) program("torchrun", call(python, "-m", "torch.distributed.run", "--master-port", String(freePort())));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Runs shell text of the page with addresses and ports of this machine. */
async function sh(text: string, port = freePort()) {
  const child = Bun.spawn(
    ["sh", "-eu", "-c", text.replaceAll("10.0.0.1", "127.0.0.1").replaceAll("29500", `${port}`)],
    {
      cwd: folder,
      env: {
        ...process.env,
        PATH: `${join(folder, "bin")}:${process.env.PATH}`,
        NO_COLOR: "1",
        C10D_STORE_SECRET: "",
        TORCH_CPP_LOG_LEVEL: "ERROR",
        MASTER_ADDR: "",
        MASTER_PORT: "",
        SLURM_JOB_NODELIST: "node[1-2]",
        OMPI_ALLOW_RUN_AS_ROOT: "1",
        OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: "1",
        OMPI_MCA_rmaps_base_oversubscribe: "1",
        OMPI_MCA_orte_tmpdir_base: folder,
      },
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
      timeout: 40_000,
      killSignal: "SIGKILL",
    },
  );
  const [stdout, stderr, exitCode] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  if (exitCode !== 0) throw new Error(`exit code ${exitCode} of ${text}${stdout}${stderr}`);
  return { stdout, stderr };
}

describe("docs/launching.md", () => {
  test.each([
    "c10d run -n 2 sum.ts",
    "c10d run -n 2 --timeout 2h",
    "c10d run -n 2 --max-restarts",
    "c10d run -n 2 --dashboard",
  ])("%s", async (start) => {
    expect(lines((await sh(block(start))).stdout)).toEqual(prefixed);
  });

  test("c10d top, of a job that runs meanwhile", async () => {
    const id = `7c-${process.pid}`;
    writeFileSync(
      join(folder, "long.ts"),
      `import * as dist from "bun-c10d";
      await using group = await dist.initProcessGroup({ backend: "gloo" });
      if (group.rank === 0) console.log("rank 0 of 2");
      await group.recv(new Float32Array(1), { src: 1 - group.rank });`,
    );
    const path = `${join(folder, "bin")}:${process.env.PATH}`;
    const job = Bun.spawn(["c10d", "run", "-n", "2", "--rdzv-id", id, "long.ts"], {
      cwd: folder,
      env: { ...process.env, PATH: path },
      stdout: "pipe",
      stderr: "ignore",
      timeout: 40_000,
    });
    using _end = { [Symbol.dispose]: () => job.kill("SIGKILL") };
    for await (const _ of job.stdout) break;
    const [newest = "", named = ""] = block("c10d top").trim().split("\n");
    expect((await sh(newest)).stdout).toStartWith("c10d top: job ");
    const row = /^ +1 +\d+ +in op +recv #1 from rank 0 on group "0" /m;
    let shown = "";
    for (const end = performance.now() + 20_000; !row.test(shown) && performance.now() < end; )
      shown = (await sh(named.replace(/\b7c$/, id.slice(0, -1)))).stdout;
    expect(shown).toStartWith(`c10d top: job ${id}: long.ts, 2 ranks\n`);
    expect(shown).toMatch(row);
    job.kill("SIGINT");
    await job.exited;
  });

  test("several nodes", async () => {
    await sh(block("(umask 077"));
    const port = freePort();
    const nodes = block("c10d run -n 2 --nnodes 2").trim().split("\n");
    const outputs = await Promise.all(nodes.map((command) => sh(command, port)));
    expect(outputs.map(({ stdout }) => lines(stdout))).toEqual(
      [0, 2].map((first) =>
        [0, 1].map((local) => `[rank ${first + local}] rank ${first + local} of 4, local rank ${local}: 10`),
      ),
    );
  });

  test("logs", async () => {
    const [all = "", errors = "", tee = ""] = block("c10d run -n 2 --rdzv-id").trim().split("\n");
    const outputs = await Promise.all([all, errors, tee].map((command) => sh(command)));
    expect(outputs.map(({ stdout }) => lines(stdout))).toEqual([[], prefixed, prefixed]);
    const log = (job: string, rank: number) => join(folder, "logs", job, "attempt_0", String(rank), "stdout.log");
    for (const rank of [0, 1]) {
      for (const job of ["job7", "job9"]) expect(readFileSync(log(job, rank), "utf8")).toBe(`${oneNode[rank]}\n`);
      expect(existsSync(log("job8", rank))).toBe(false);
      expect(existsSync(log("job8", rank).replace("stdout", "stderr"))).toBe(true);
    }
  });

  test("events", async () => {
    const { stdout, stderr } = await sh(block("c10d run -n 2 --json"));
    const events = stdout.trim().split("\n");
    expect(events.map((line) => (JSON.parse(line) as { event: string }).event)).toEqual([
      "started",
      "rankEnded",
      "rankEnded",
      "finished",
    ]);
    expect(lines(stderr)).toEqual(prefixed);
  });

  // test/clusters runs them under Slurm itself, if that is installed.
  test.each(["srun -n 2", "export MASTER_ADDR"])("srun, as far as a script can simulate it: %s", async (start) => {
    expect(lines((await sh(block(start))).stdout)).toEqual(oneNode);
  });

  const launchers = [
    ["torchrun", torchPython(), "C10D_REQUIRE_TORCH", "./bootstrap torch installs PyTorch"],
    [
      "mpirun -n 2 bun",
      mpirun("Open MPI"),
      "C10D_REQUIRE_MPIRUN",
      "there is no mpirun of Open MPI (package openmpi-bin)",
    ],
    [
      "mpirun -n 2 -x",
      mpirun("Open MPI"),
      "C10D_REQUIRE_MPIRUN",
      "there is no mpirun of Open MPI (package openmpi-bin)",
    ],
    ["mpiexec -n 2 bun", mpirun("MPICH"), "C10D_REQUIRE_MPICH", "there is no mpiexec of MPICH (package mpich)"],
    ["mpiexec -n 2 -genv", mpirun("MPICH"), "C10D_REQUIRE_MPICH", "there is no mpiexec of MPICH (package mpich)"],
  ] as const;
  for (const [name, program, required, reason] of launchers) {
    const skipped = program === undefined && process.env[required] !== "1";
    if (skipped) {
      console.log(`skip docs/launching.md, ${name}: ${reason}`);
      ran.add(block(name));
    }
    test.skipIf(skipped)(name, async () => {
      expect(lines((await sh(block(name))).stdout)).toEqual(oneNode);
    });
  }

  test("no command is left out", () => {
    const commands = blocks.filter(({ language }) => language === "sh").map(({ code }) => code);
    expect(commands.filter((code) => !ran.has(code))).toEqual([]);
  });
});
