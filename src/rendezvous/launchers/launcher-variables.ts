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
  /** Name of it. */
  readonly launcher: string;
  /** How to tell all ranks where they meet, which it does not do by itself. */
  readonly tellMaster: string;
}

const torch = {
  rank: "RANK",
  worldSize: "WORLD_SIZE",
  localRank: "LOCAL_RANK",
  launcher: undefined,
  tellMaster: undefined,
} as const;

/**
 * Those of launchers that know nothing of c10d, nearest to the process first: what mpirun starts inside a Slurm
 * allocation has Slurm's variables as well, and they may be those of a daemon that is on its node for all its ranks.
 */
const foreign = [
  {
    rank: "OMPI_COMM_WORLD_RANK",
    worldSize: "OMPI_COMM_WORLD_SIZE",
    localRank: "OMPI_COMM_WORLD_LOCAL_RANK",
    launcher: "Open MPI's mpirun",
    tellMaster: "mpirun -x MASTER_ADDR=<host of rank 0> -x MASTER_PORT=29500 …",
  },
  {
    rank: "PMI_RANK",
    worldSize: "PMI_SIZE",
    localRank: "MPI_LOCALRANKID",
    launcher: "MPICH's mpiexec",
    tellMaster: "mpiexec -genv MASTER_ADDR <host of rank 0> -genv MASTER_PORT 29500 …",
  },
  {
    rank: "SLURM_PROCID",
    worldSize: "SLURM_NTASKS",
    localRank: "SLURM_LOCALID",
    launcher: "Slurm's srun",
    tellMaster:
      "srun --mpi=pmi2 … does, as far as it is there; or, before srun, " +
      'export MASTER_PORT=29500 MASTER_ADDR="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"',
  },
] as const satisfies Launcher[];

/** Names of the variables in which a launcher tells a process its place in the job. */
export type LauncherVariables = typeof torch | (typeof foreign)[number];

/** Whether the variables of a launcher are about this process and not about something that it is inside of. */
function areOwn({ rank }: (typeof foreign)[number], env: Environment): boolean {
  if (rank === "PMI_RANK") return !isSlurmPmi(env);
  return rank !== "SLURM_PROCID" || isSlurmTask(env);
}

/**
 * Which variables hold in an environment: `RANK` and `WORLD_SIZE` if one of them is set, else those of Open MPI, MPICH
 * or Slurm, in this order, where rank and size are both set and tell of this process: Slurm's do not in the script of a
 * batch job. Those of two launchers are never mixed.
 */
export function launcherVariables(env: Environment = processEnvironment): LauncherVariables {
  const has = (name: EnvironmentName) => environmentText(name, env) !== undefined;
  if (has(torch.rank) || has(torch.worldSize)) return torch;
  return foreign.find((each) => has(each.rank) && has(each.worldSize) && areOwn(each, env)) ?? torch;
}
