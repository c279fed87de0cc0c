import {
  type Environment,
  type EnvironmentName,
  environmentFlag,
  environmentText,
  processEnvironment,
} from "../environment/index.ts";
import { checkPort } from "../store/arguments.ts";
import { launcherVariables } from "./launchers/launcher-variables.ts";
import { unsetVariablesMessage } from "./launchers/not-launched.ts";
import { meet } from "./meet.ts";
import { checkMembership, integerFrom, rendezvousError } from "./membership.ts";
import type { Rendezvous, RendezvousOptions } from "./rendezvous-handler.ts";

const notOfSlurm =
  "This process is in a Slurm job, but is not one of its tasks: start the ranks with `srun bun script.ts`";

/**
 * `env://`: RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT; an empty variable counts as unset. Without RANK and
 * WORLD_SIZE those of Open MPI, MPICH or Slurm; see {@link launcherVariables}. Ranks that one of these started need no
 * MASTER_ADDR and MASTER_PORT if it lets them meet: Open MPI's and Slurm's on one host in a file of their job, those of
 * MPICH and of `srun --mpi=pmi2` on any hosts.
 */
export async function envRendezvous(url: URL, options: RendezvousOptions): Promise<Rendezvous> {
  const env: Environment = options.env ?? processEnvironment();
  const names = launcherVariables(env);
  const isGiven = (option: number | undefined, parameter: string) =>
    option !== undefined || url.searchParams.has(parameter);
  const missing = (name: EnvironmentName) => {
    const unset = `environment variable ${name} expected, but not set`;
    const { launcher, masterAdvice } = names;
    if (launcher !== undefined) {
      return rendezvousError("env", `${unset}. ${launcher} does not tell the ranks where they meet: ${masterAdvice}`);
    }
    const needed = [
      ...(isGiven(options.rank, "rank") ? [] : (["RANK"] as const)),
      ...(isGiven(options.worldSize, "world_size") ? [] : (["WORLD_SIZE"] as const)),
      "MASTER_ADDR",
      "MASTER_PORT",
    ] as const;
    const { what, code } = unsetVariablesMessage(name, needed, env);
    return rendezvousError("env", env.SLURM_JOB_ID ? `${unset}. ${notOfSlurm}` : what, code);
  };
  const number = (name: EnvironmentName, given: number | undefined, parameter: string | undefined) => {
    const inUrl = parameter === undefined ? null : url.searchParams.get(parameter);
    return integerFrom(name, given, inUrl ?? env[name], () => missing(name));
  };
  const rank = number(names.rank, options.rank, "rank");
  const worldSize = number(names.worldSize, options.worldSize, "world_size");
  checkMembership(rank, worldSize, {
    rank: isGiven(options.rank, "rank") ? "rank" : names.rank,
    worldSize: isGiven(options.worldSize, "world_size") ? "world size" : names.worldSize,
  });
  if (names.launcher !== undefined && !env.MASTER_ADDR && !env.MASTER_PORT) {
    const { meetByLauncher } = await import("./launchers/launcher-meeting.ts");
    const met = await meetByLauncher(names, { rank, worldSize }, options);
    if (met !== undefined) return met;
  }
  const host = environmentText("MASTER_ADDR", env);
  if (host === undefined) throw missing("MASTER_ADDR");
  const port = number("MASTER_PORT", undefined, undefined);
  checkPort(port, "MASTER_PORT");
  const hostedByLauncher = environmentFlag("TORCHELASTIC_USE_AGENT_STORE", env);
  const attempt = env.TORCHELASTIC_RESTART_COUNT ?? "";
  return meet({ host, port, rank, worldSize, hostedByLauncher, attempt }, options);
}
