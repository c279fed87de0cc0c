import { tmpdir } from "node:os";
import { isAbsolute, join } from "node:path";
import type { Environment } from "../../environment/index.ts";
import { createOwnFolder, type FolderFinding, ownFolder } from "../../files/index.ts";

/**
 * Whether srun has started this process as one of its tasks. The script of a batch job and the shell of an interactive
 * one have the variables of the whole job, as if they were its first task.
 */
export function isSlurmTask(env: Environment): boolean {
  if (!env.SLURM_STEP_ID) return !env.SLURM_JOB_ID;
  return !env.SLURM_STEP_NUM_TASKS || env.SLURM_STEP_NUM_TASKS === env.SLURM_NTASKS;
}

/** Whether the PMI_* variables are those of `srun --mpi=pmi2`, and not of an mpiexec inside a job of Slurm. */
export function isSlurmPmi(env: Environment): boolean {
  const { PMI_JOBID, PMI_RANK, PMI_SIZE, SLURM_JOB_ID, SLURM_STEP_ID, SLURM_PROCID, SLURM_NTASKS } = env;
  if (!PMI_JOBID || PMI_JOBID !== `${SLURM_JOB_ID}.${SLURM_STEP_ID}`) return false;
  return PMI_RANK === SLURM_PROCID && PMI_SIZE === SLURM_NTASKS;
}

/**
 * The path of a file for a step of Slurm whose tasks are all on this host, in a folder that this user alone can enter:
 * that of Slurm's PMIx, which is removed with the step, else one of our own. No other step has a file of this name.
 * Undefined if the step has several hosts.
 */
export function stepFile(env: Environment): FolderFinding | undefined {
  const { SLURM_JOB_ID: job, SLURM_STEP_ID: step, SLURM_STEP_LAUNCHER_PORT: launcher } = env;
  if (env.SLURM_STEP_NUM_NODES !== "1" || !job || !step) return undefined;
  const pmix =
    env.PMIX_NAMESPACE === `slurm.pmix.${job}.${step}` ? ownFolder(env.PMIX_SERVER_TMPDIR ?? "").path : undefined;
  if (pmix !== undefined) return { path: join(pmix, "bun-c10d") };
  // Steps of a requeued job, and jobs of a cluster that was set up again, have the old numbers.
  const name = ["slurm", env.SLURM_CLUSTER_NAME, job, step, env.SLURM_RESTART_COUNT || 0, launcher].join("-");
  const folder = userFolder(new Set([env.TMPDIR ?? "", tmpdir(), "/tmp"]));
  return folder.path === undefined ? folder : { path: join(folder.path, name.replaceAll(/[^\w.-]/g, "_")) };
}

/** A folder for this user alone in the first of `parents`, to which others may write, too, where that is possible. */
function userFolder(parents: Iterable<string>): FolderFinding {
  const faults: string[] = [];
  for (const parent of parents) {
    if (!isAbsolute(parent)) continue;
    const { path, fault } = createOwnFolder(join(parent, `bun-c10d-${process.getuid?.()}`));
    if (path !== undefined) return { path };
    faults.push(fault);
  }
  return { fault: `${faults.join("; ")}. Set TMPDIR for all tasks to a folder that is yours alone` };
}
