import {
  type Environment,
  type EnvironmentName,
  environmentText,
  processEnvironment,
} from "../../environment/index.ts";
import { isSlurmPmi, isSlurmTask } from "./slurm-step.ts";

interface Launcher {
  readonly rank: EnvironmentName;
  readonly worldSize: EnvironmentName;
  readonly localRank: EnvironmentName;
  /** Its name. */
  readonly launcher: string;
  /** How to tell all ranks where they meet, which the launcher does not do itself. */
  readonly masterAdvice: string;
}

const torch = {
  rank: "RANK",
  worldSize: "WORLD_SIZE",
  localRank: "LOCAL_RANK",
  launcher: undefined,
  masterAdvice: undefined,
} as const;

/**
 * Those of launchers that do not know c10d, the nearest to the process first: what mpirun starts inside a Slurm
 * allocation has Slurm's variables as well, and they may be those of the daemon that starts all ranks of its node.
 */
const foreign = [
  {
    rank: "OMPI_COMM_WORLD_RANK",
    worldSize: "OMPI_COMM_WORLD_SIZE",
    localRank: "OMPI_COMM_WORLD_LOCAL_RANK",
    launcher: "Open MPI's mpirun",
    masterAdvice: "mpirun -x MASTER_ADDR=<host of rank 0> -x MASTER_PORT=29500 …",
  },
  {
    rank: "PMI_RANK",
    worldSize: "PMI_SIZE",
    localRank: "MPI_LOCALRANKID",
    launcher: "MPICH's mpiexec",
    masterAdvice: "mpiexec -genv MASTER_ADDR <host of rank 0> -genv MASTER_PORT 29500 …",
  },
  {
    rank: "SLURM_PROCID",
    worldSize: "SLURM_NTASKS",
    localRank: "SLURM_LOCALID",
    launcher: "Slurm's srun",
    masterAdvice:
      "srun --mpi=pmi2 … does, where it is available; or, before srun, " +
      'export MASTER_PORT=29500 MASTER_ADDR="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"',
  },
] as const satisfies Launcher[];

/** Names of the variables by which a launcher passes a process its rank in the job. */
export type LauncherVariables = typeof torch | (typeof foreign)[number];

/** Whether the variables of a launcher describe this process, and not one that encloses it. */
function areOwn({ rank }: (typeof foreign)[number], env: Environment): boolean {
  if (rank === "PMI_RANK") return !isSlurmPmi(env);
  return rank !== "SLURM_PROCID" || isSlurmTask(env);
}

/**
 * Which variables apply in an environment: `RANK` and `WORLD_SIZE` if one of them is set, else those of Open MPI, MPICH
 * or Slurm, in this order, if rank and size are both set and describe this process. In the script of a batch job,
 * Slurm's do not. Those of two launchers are never mixed.
 */
export function launcherVariables(env: Environment = processEnvironment()): LauncherVariables {
  const has = (name: EnvironmentName) => environmentText(name, env) !== undefined;
  if (has(torch.rank) || has(torch.worldSize)) return torch;
  return foreign.find((each) => has(each.rank) && has(each.worldSize) && areOwn(each, env)) ?? torch;
}
