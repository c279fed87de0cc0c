type Environment = Readonly<Record<string, string | undefined>>;

/** Names of the variables in which a launcher tells a process its place in the job. */
export interface LauncherVariables {
  readonly rank: string;
  readonly worldSize: string;
  readonly localRank: string;
}

const torch: LauncherVariables = { rank: "RANK", worldSize: "WORLD_SIZE", localRank: "LOCAL_RANK" };

/**
 * Those of launchers that know nothing of c10d, nearest to the process first: what mpirun starts inside a Slurm
 * allocation has Slurm's variables as well, and they may be those of a daemon that is on its node for all its ranks.
 */
const foreign: readonly LauncherVariables[] = [
  { rank: "OMPI_COMM_WORLD_RANK", worldSize: "OMPI_COMM_WORLD_SIZE", localRank: "OMPI_COMM_WORLD_LOCAL_RANK" },
  { rank: "PMI_RANK", worldSize: "PMI_SIZE", localRank: "MPI_LOCALRANKID" },
  { rank: "SLURM_PROCID", worldSize: "SLURM_NTASKS", localRank: "SLURM_LOCALID" },
];

/**
 * Which variables hold in an environment: `RANK` and `WORLD_SIZE` if one of them is set, else those of Open MPI, MPICH
 * or Slurm, in this order, where rank and size are both set. Those of two launchers are never mixed.
 */
export function launcherVariables(env: Environment = process.env): LauncherVariables {
  const has = (name: string) => env[name] !== undefined && env[name] !== "";
  if (has(torch.rank) || has(torch.worldSize)) return torch;
  return foreign.find(({ rank, worldSize }) => has(rank) && has(worldSize)) ?? torch;
}
