import { environmentInteger } from "../environment/index.ts";
import { InvalidArgumentError } from "../errors/index.ts";
import { launcherVariables } from "../rendezvous/index.ts";

/**
 * Rank of this process among those of its job on this host, usually the index of its device: `LOCAL_RANK`, or the
 * variable of Open MPI, MPICH or Slurm if one of these sets the rank.
 *
 * @param fallbackRank Used if no launcher set a rank, as for a script that is run alone.
 * @throws InvalidArgumentError if there is neither a variable nor a fallback, or a variable is not a number.
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
