import { expect, test } from "bun:test";
import { launcherVariables } from "../rendezvous/index.ts";
import { launcherJobId } from "./launcher-job.ts";

type Environment = Readonly<Record<string, string>>;
const idOf = (env: Environment) => launcherJobId(launcherVariables(env), env);

const openMpi = {
  ...{ OMPI_COMM_WORLD_RANK: "0", OMPI_COMM_WORLD_SIZE: "2" },
  ...{ PMIX_NAMESPACE: "7", PMIX_SERVER_TMPDIR: "/tmp/ompi.1" },
};
const slurm = { SLURM_PROCID: "0", SLURM_NTASKS: "2", SLURM_JOB_ID: "5", SLURM_STEP_ID: "1" };

test.each<[string, Environment, Environment, Environment]>([
  ["Open MPI", openMpi, { OMPI_COMM_WORLD_RANK: "1" }, { PMIX_SERVER_TMPDIR: "/tmp/ompi.2" }],
  ["Slurm", slurm, { SLURM_PROCID: "1" }, { SLURM_RESTART_COUNT: "1" }],
])("the ranks of a job of %s have the same id, and those of another job a different one", (_, env, rank, job) => {
  const id = idOf(env);
  expect(id).toMatch(/^[\w-]{8,80}$/);
  expect(idOf({ ...env, ...rank })).toBe(id);
  expect(idOf({ ...env, ...job })).not.toBe(id);
});

test.each<[string, Environment]>([
  ["that say nothing of their job", { OMPI_COMM_WORLD_RANK: "0", OMPI_COMM_WORLD_SIZE: "2" }],
  ["whose job is not known, as without the process that starts ranks of MPICH", { PMI_RANK: "0", PMI_SIZE: "2" }],
  ["of torchrun inside an Open MPI job", { ...openMpi, RANK: "0", WORLD_SIZE: "1" }],
])("launchers %s: there is none", (_, env) => {
  expect(idOf(env)).toBeUndefined();
});
