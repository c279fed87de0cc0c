import { environmentInteger } from "../environment/index.ts";
import { InvalidArgumentError } from "../errors/index.ts";
import { launcherVariables } from "../rendezvous/index.ts";

/**
 * Rank of this process among those of its job on this host, which is the usual number of its device: `LOCAL_RANK`, or
 * where Open MPI, MPICH or Slurm tell the rank, their variable.
 *
 * @param fallbackRank What holds where no launcher has set one, as for a script that is run alone.
 * @throws InvalidArgumentError without a variable and a fallback, and for a variable that is no number.
 *
 * c10d: `get_node_local_rank`.
 */
export function getNodeLocalRank(fallbackRank?: number, env?: Readonly<Record<string, string | undefined>>): number {
  const local = environmentInteger("LOCAL_RANK", env) ?? environmentInteger(launcherVariables(env).localRank, env);
  if (local !== undefined) return local;
  if (fallbackRank !== undefined) return fallbackRank;
  throw new InvalidArgumentError(
    "LOCAL_RANK is not in the environment. Start the script with c10d run or another launcher, or pass a fallback rank: getNodeLocalRank(0).",
    { argument: "LOCAL_RANK" },
  );
}
