import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { environmentVariables } from "../distributed/environment.ts";
import { TCPStoreServer } from "../store/index.ts";
import { launcherVariables } from "./launcher-variables.ts";
import { sessionFolder } from "./open-mpi-session.ts";
import { rendezvous } from "./rendezvous.ts";

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
    ["nobody's", {}, { rank: "RANK", worldSize: "WORLD_SIZE", localRank: "LOCAL_RANK" }],
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

  test("half of a pair is none", () => {
    // A shell in a Slurm allocation has the number of tasks and is none of them.
    expect(launcherVariables({ SLURM_NTASKS: "4" }).rank).toBe("RANK");
    expect(launcherVariables({ PMI_RANK: "0", ...slurm }).rank).toBe("SLURM_PROCID");
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
      () => "it met",
      (reason: unknown) => String(reason),
    );

  test("meet in a file of their job", async () => {
    const env = (rank: string) => ({ ...session, OMPI_COMM_WORLD_RANK: rank });
    // Each meeting of a process has a file of its own; here both are one process.
    expect(sessionFolder(session, 2)).toBe(folder);
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
    ["the folder is not there", { PMIX_SERVER_TMPDIR: "/nonexistent" }],
    ["its path is relative", { PMIX_SERVER_TMPDIR: "." }],
    ["others may look into the folder", { PMIX_SERVER_TMPDIR: "/tmp" }],
    ["the job has no name", { PMIX_NAMESPACE: "" }],
    ["half of the place is given", { MASTER_PORT: "29500" }],
  ])("are told what is missing where %s", async (_, changes) => {
    expect(await refusal({ ...session, ...changes })).toContain("MASTER_ADDR expected, but not set. Open MPI's mpirun");
  });
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
  ])("%s does not tell where to meet: the error says how to", async (launcher, variables, remedy) => {
    for (const master of [{}, { MASTER_ADDR: "127.0.0.1", MASTER_PORT: "" }]) {
      const env = { ...variables, ...master };
      const error = await rendezvous("env://", { env, timeout: 200 }).catch((reason: unknown) => reason);
      const name = "MASTER_ADDR" in master ? "MASTER_PORT" : "MASTER_ADDR";
      expect(String(error)).toContain(`environment variable ${name} expected, but not set. ${launcher} does not tell`);
      expect(String(error)).toContain(remedy);
    }
  });

  test("a bad number is refused by the name of its variable", async () => {
    const env = { ...openMpi, OMPI_COMM_WORLD_RANK: "first", MASTER_ADDR: "127.0.0.1", MASTER_PORT: "1" };
    const error = await rendezvous("env://", { env, timeout: 200 }).catch((reason: unknown) => reason);
    expect(String(error)).toContain('OMPI_COMM_WORLD_RANK must be an integer, got "first"');
  });
});
