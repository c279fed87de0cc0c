import { type Environment, processEnvironment } from "../environment/index.ts";
import type { LauncherVariables } from "../rendezvous/index.ts";
import { ancestorNamed } from "../status/process-state.ts";

/**
 * An id of this job that all its ranks on this host have from their launcher, before they have met: the job of Open MPI,
 * the process by which MPICH starts ranks, or the step of Slurm. Undefined for other launchers.
 */
export function launcherJobId(names: LauncherVariables, env: Environment = processEnvironment()): string | undefined {
  const parts = partsOf(names, env);
  return parts && `launcher-${Bun.hash(JSON.stringify(parts)).toString(36)}`;
}

function partsOf(names: LauncherVariables, env: Environment): readonly unknown[] | undefined {
  if (names.rank === "OMPI_COMM_WORLD_RANK") {
    const { PMIX_NAMESPACE, PMIX_SERVER_TMPDIR } = env;
    return PMIX_NAMESPACE && PMIX_SERVER_TMPDIR ? [PMIX_NAMESPACE, PMIX_SERVER_TMPDIR] : undefined;
  }
  if (names.rank === "PMI_RANK") {
    const proxy = ancestorNamed("hydra_pmi_proxy");
    return proxy && ["hydra", proxy.pid, proxy.startedAt];
  }
  const { SLURM_JOB_ID, SLURM_STEP_ID, SLURM_CLUSTER_NAME, SLURM_RESTART_COUNT, SLURM_STEP_LAUNCHER_PORT } = env;
  if (names.rank !== "SLURM_PROCID" || !SLURM_JOB_ID || !SLURM_STEP_ID) return undefined;
  // Steps of a requeued job, and jobs of a cluster that was set up again, have the old numbers.
  return [SLURM_CLUSTER_NAME, SLURM_JOB_ID, SLURM_STEP_ID, SLURM_RESTART_COUNT, SLURM_STEP_LAUNCHER_PORT];
}
