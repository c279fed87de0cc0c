import { afterAll, describe, expect, test } from "bun:test";
import {
  chmodSync,
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { rendezvous } from "../../distributed/index.ts";
import { environmentVariables } from "../../environment/index.ts";
import { otherUser, testAsRoot } from "../../files/fixtures/other-user.ts";
import { TCPStoreServer } from "../../store/index.ts";
import { launcherVariables } from "./launcher-variables.ts";
import { sessionFolder } from "./open-mpi-session.ts";
import { pmiSocket } from "./pmi-meeting.ts";
import { stepFile } from "./slurm-step.ts";

const openMpi = { OMPI_COMM_WORLD_RANK: "1", OMPI_COMM_WORLD_SIZE: "2", OMPI_COMM_WORLD_LOCAL_RANK: "1" };
const mpich = { PMI_RANK: "2", PMI_SIZE: "3", MPI_LOCALRANKID: "0" };
const slurm = { SLURM_PROCID: "3", SLURM_NTASKS: "4", SLURM_LOCALID: "1" };
const torch = { RANK: "0", WORLD_SIZE: "1", LOCAL_RANK: "0" };

describe("launcherVariables", () => {
  const cases: readonly (readonly [
    string,
    Record<string, string>,
    { rank: string; worldSize: string; localRank: string },
  ])[] = [
    [
      "Open MPI's",
      openMpi,
      { rank: "OMPI_COMM_WORLD_RANK", worldSize: "OMPI_COMM_WORLD_SIZE", localRank: "OMPI_COMM_WORLD_LOCAL_RANK" },
    ],
    ["MPICH's", mpich, { rank: "PMI_RANK", worldSize: "PMI_SIZE", localRank: "MPI_LOCALRANKID" }],
    ["Slurm's", slurm, { rank: "SLURM_PROCID", worldSize: "SLURM_NTASKS", localRank: "SLURM_LOCALID" }],
    ["torchrun's", torch, { rank: "RANK", worldSize: "WORLD_SIZE", localRank: "LOCAL_RANK" }],
    ["no launcher's", {}, { rank: "RANK", worldSize: "WORLD_SIZE", localRank: "LOCAL_RANK" }],
  ];
  test.each(cases)("%s", (_, env, names) => {
    expect(launcherVariables(env)).toMatchObject(names);
    for (const name of Object.values(names)) expect(Object.keys(environmentVariables)).toContain(name);
  });

  test("the nearest launcher wins, and RANK or WORLD_SIZE over all", () => {
    expect(launcherVariables({ ...slurm, ...mpich, ...openMpi }).rank).toBe("OMPI_COMM_WORLD_RANK");
    expect(launcherVariables({ ...slurm, ...mpich }).rank).toBe("PMI_RANK");
    expect(launcherVariables({ ...slurm, ...openMpi, ...torch }).rank).toBe("RANK");
    expect(launcherVariables({ ...openMpi, WORLD_SIZE: "8" }).rank).toBe("RANK");
    expect(launcherVariables({ ...openMpi, RANK: "", WORLD_SIZE: "" }).rank).toBe("OMPI_COMM_WORLD_RANK");
  });

  test("half of a pair does not count", () => {
    // A shell in a Slurm allocation has the number of tasks, but is not one of them.
    expect(launcherVariables({ SLURM_NTASKS: "4" }).rank).toBe("RANK");
    expect(launcherVariables({ PMI_RANK: "0", ...slurm }).rank).toBe("SLURM_PROCID");
  });

  test("the script of a batch job and the shell of an interactive one are not among its tasks", () => {
    const job = { ...slurm, SLURM_JOB_ID: "7", SLURM_PROCID: "0" };
    const step = { SLURM_STEP_ID: "0", SLURM_STEP_NUM_TASKS: "4" };
    expect(launcherVariables({ ...job, ...step }).rank).toBe("SLURM_PROCID");
    expect(launcherVariables(job).rank).toBe("RANK");
    expect(launcherVariables({ ...job, ...step, SLURM_STEP_NUM_TASKS: "1" }).rank).toBe("RANK");
  });

  test("PMI_* of srun --mpi=pmi2 are Slurm's, those of an mpiexec inside its step are not", () => {
    const step = { ...slurm, SLURM_JOB_ID: "7", SLURM_STEP_ID: "0", SLURM_STEP_NUM_TASKS: "4" };
    const pmi = { PMI_JOBID: "7.0", PMI_RANK: "3", PMI_SIZE: "4" };
    expect(launcherVariables({ ...step, ...pmi }).localRank).toBe("SLURM_LOCALID");
    expect(launcherVariables({ ...step, ...pmi, PMI_SIZE: "8" }).localRank).toBe("MPI_LOCALRANKID");
    expect(launcherVariables({ ...step, PMI_RANK: "3", PMI_SIZE: "4" }).localRank).toBe("MPI_LOCALRANKID");
  });
});

describe("ranks of Open MPI on one host", () => {
  const folder = mkdtempSync(join(tmpdir(), "c10d-session-"));
  afterAll(() => rmSync(folder, { recursive: true }));
  const session = {
    ...openMpi,
    OMPI_COMM_WORLD_LOCAL_SIZE: "2",
    PMIX_SERVER_TMPDIR: folder,
    PMIX_NAMESPACE: "prte-host@1/2",
  };
  const refusal = (env: Record<string, string>) =>
    rendezvous("env://", { env, timeout: 200 }).then(
      () => "no error",
      (reason: unknown) => String(reason),
    );

  test("meet in a file of their job", async () => {
    const env = (rank: string) => ({ ...session, OMPI_COMM_WORLD_RANK: rank });
    // Each meeting of a process has its own file; here both are one process.
    expect(sessionFolder(session, 2)).toEqual({ path: folder });
    const alone = { OMPI_COMM_WORLD_SIZE: "1", OMPI_COMM_WORLD_LOCAL_SIZE: "1" };
    const met = await rendezvous("env://", { env: { ...env("0"), ...alone }, timeout: 2_000 });
    expect(readdirSync(folder)).toEqual([expect.stringMatching(/^bun-c10d-prte-host@1_2-\d+$/)]);
    await met.store.set("k", "v");
    expect(await met.store.get("k")).toHaveLength(1);
    await met.close?.();
    expect(readdirSync(folder)).toEqual([]);
  });

  test.each<[string, Record<string, string>]>([
    ["some are on another host", { OMPI_COMM_WORLD_LOCAL_SIZE: "1" }],
    ["the folder does not exist", { PMIX_SERVER_TMPDIR: "/nonexistent" }],
    ["its path is relative", { PMIX_SERVER_TMPDIR: "." }],
    ["the job has no name", { PMIX_NAMESPACE: "" }],
    ["only MASTER_PORT is given", { MASTER_PORT: "29500" }],
  ])("fail with what is missing if %s", async (_, changes) => {
    expect(await refusal({ ...session, ...changes })).toContain("MASTER_ADDR expected, but not set. Open MPI's mpirun");
  });

  test("are refused if other users can enter the folder", async () => {
    const open = mkdtempSync(join(tmpdir(), "c10d-session-"));
    chmodSync(open, 0o755);
    expect(await refusal({ ...session, PMIX_SERVER_TMPDIR: open })).toContain(
      `the ranks of Open MPI's mpirun meet in a folder that no other user can enter, but other users can enter ${open} (mode 0755)`,
    );
    rmSync(open, { recursive: true });
  });
});

describe("tasks of Slurm on one node", () => {
  const folder = mkdtempSync(join(tmpdir(), "c10d-slurm-step-"));
  afterAll(() => rmSync(folder, { recursive: true }));
  const step = {
    ...{ SLURM_PROCID: "0", SLURM_NTASKS: "1", SLURM_JOB_ID: "7", SLURM_STEP_ID: "2", SLURM_STEP_NUM_TASKS: "1" },
    ...{ SLURM_STEP_NUM_NODES: "1", SLURM_STEP_LAUNCHER_PORT: "40001", SLURM_CLUSTER_NAME: "big/one", TMPDIR: folder },
  };
  const own = join(folder, `bun-c10d-${process.getuid?.()}`);

  test("meet in a file of their step, in a folder that no other user can enter", async () => {
    const met = await rendezvous("env://", { env: step, timeout: 2_000 });
    expect(statSync(own).mode & 0o777).toBe(0o700);
    expect(readdirSync(own)).toEqual([expect.stringMatching(/^slurm-big_one-7-2-0-40001-\d+$/)]);
    await met.close?.();
    expect(readdirSync(own)).toEqual([]);
  });

  test("the file is the step's own", () => {
    const others = [{}, { SLURM_JOB_ID: "8" }, { SLURM_STEP_ID: "3" }, { SLURM_RESTART_COUNT: "1" }];
    const ports = { SLURM_STEP_LAUNCHER_PORT: "40002" };
    const files = [...others, ports].map((change) => stepFile({ ...step, ...change })?.path);
    expect(new Set(files).size).toBe(files.length);
    expect(stepFile({ ...step, SLURM_STEP_NUM_NODES: "2" })).toBeUndefined();
    const pmix = { PMIX_NAMESPACE: "slurm.pmix.7.2", PMIX_SERVER_TMPDIR: folder };
    expect(stepFile({ ...step, ...pmix })).toEqual({ path: join(folder, "bun-c10d") });
    expect(stepFile({ ...step, ...pmix, PMIX_NAMESPACE: "prterun-1" })?.path).toStartWith(own);
  });

  test("a folder that others can enter, or a link, is not used", () => {
    for (const spoil of [() => mkdirSync(own), () => symlinkSync(folder, own)]) {
      rmSync(own, { recursive: true, force: true });
      spoil();
      expect(stepFile(step)?.path).not.toStartWith(folder);
    }
  });

  test("nor one in a folder where any user can replace it", () => {
    rmSync(own, { recursive: true, force: true });
    chmodSync(folder, 0o777);
    expect(stepFile(step)?.path).not.toStartWith(folder);
    chmodSync(folder, 0o700);
    expect(stepFile(step)?.path).toStartWith(own);
  });

  // There is no alternative to the folder in /tmp; only the namespace sees the other owner.
  testAsRoot("a folder that another user has taken is an error that says so and what to do", () => {
    const script = `
      import { rendezvous } from "${import.meta.dir}/../../distributed/rendezvous.ts";
      const error = await rendezvous("env://", { timeout: 2_000 }).catch((reason) => reason);
      console.log(JSON.stringify({ code: error.code, message: error.message }));`;
    const taken = `mkdir -p -m 700 /tmp/bun-c10d-0 && mount -t tmpfs -o mode=700,uid=${otherUser} tmpfs /tmp/bun-c10d-0`;
    const { stdout, stderr } = Bun.spawnSync({
      cmd: ["unshare", "--mount", "sh", "-c", `${taken} && exec "$0" -e "$1"`, process.execPath, script],
      env: { ...process.env, ...step, TMPDIR: "/tmp" },
    });
    expect(stderr.toString()).toBe("");
    const { code, message } = JSON.parse(stdout.toString());
    expect(code).toBe("UNTRUSTED_FOLDER");
    expect(message).toContain(
      "the ranks of Slurm's srun meet in a folder that no other user can enter, but " +
        `/tmp/bun-c10d-0 belongs to another user (uid ${otherUser}). Set TMPDIR for all tasks to a folder that is yours alone, or `,
    );
    expect(message).toContain("MASTER_ADDR=");
  });
});

test("a descriptor that is not a launcher's socket is not used", () => {
  for (const PMI_FD of ["0x", "-1", "999999", "", undefined]) expect(pmiSocket({ PMI_FD })).toBeUndefined();
  const file = openSync(import.meta.path, "r");
  try {
    expect(pmiSocket({ PMI_FD: String(file) })).toBeUndefined();
  } finally {
    closeSync(file);
  }
});

describe("env:// under a foreign launcher", () => {
  test.each([
    [openMpi, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"],
    [mpich, "PMI_RANK", "PMI_SIZE"],
    [slurm, "SLURM_PROCID", "SLURM_NTASKS"],
  ])("%j", async (variables, rankName, sizeName) => {
    await using server = await TCPStoreServer.listen({ host: "127.0.0.1", port: 0, secret: null });
    const master = { MASTER_ADDR: "127.0.0.1", MASTER_PORT: String(server.port), TORCHELASTIC_USE_AGENT_STORE: "True" };
    const ranks = await Promise.all(
      [0, 1].map((rank) =>
        rendezvous("env://", {
          timeout: 5_000,
          env: { ...variables, ...master, [rankName]: String(rank), [sizeName]: "2" },
        }),
      ),
    );
    expect(ranks.map(({ rank, worldSize }) => [rank, worldSize])).toEqual([
      [0, 2],
      [1, 2],
    ]);
    await ranks[0]?.store.set("k", "v");
    expect(await ranks[1]?.store.get("k")).toHaveLength(1);
    for (const rank of ranks) await rank.close?.();
  });

  test.each([
    ["Open MPI's mpirun", openMpi, "mpirun -x MASTER_ADDR="],
    ["MPICH's mpiexec", mpich, "mpiexec -genv MASTER_ADDR "],
    ["Slurm's srun", slurm, 'MASTER_ADDR="$(scontrol show hostnames'],
  ])("%s does not say where to meet: the error says how to pass it", async (launcher, variables, remedy) => {
    for (const master of [{}, { MASTER_ADDR: "127.0.0.1", MASTER_PORT: "" }]) {
      const env = { ...variables, ...master };
      const error = await rendezvous("env://", { env, timeout: 200 }).catch((reason: unknown) => reason);
      const name = "MASTER_ADDR" in master ? "MASTER_PORT" : "MASTER_ADDR";
      expect(String(error)).toContain(`environment variable ${name} expected, but not set. ${launcher} does not tell`);
      expect(String(error)).toContain(remedy);
    }
  });

  test("the error of a bad number names its variable", async () => {
    const env = { ...openMpi, OMPI_COMM_WORLD_RANK: "first", MASTER_ADDR: "127.0.0.1", MASTER_PORT: "1" };
    const error = await rendezvous("env://", { env, timeout: 200 }).catch((reason: unknown) => reason);
    expect(String(error)).toContain('OMPI_COMM_WORLD_RANK must be an integer, got "first"');
  });
});
