import { checkPort } from "../store/arguments.ts";
import { launcherVariables } from "./launcher-variables.ts";
import { meet } from "./meet.ts";
import { integerFrom, rendezvousError } from "./membership.ts";
import type { Rendezvous, RendezvousOptions } from "./rendezvous-handler.ts";

/**
 * `env://`: RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT; an empty variable counts as unset. Without RANK and
 * WORLD_SIZE those of Open MPI, MPICH or Slurm; see {@link launcherVariables}.
 */
export async function envRendezvous(url: URL, options: RendezvousOptions): Promise<Rendezvous> {
  const env = options.env ?? process.env;
  const missing = (name: string) => rendezvousError("env", `environment variable ${name} expected, but not set`);
  const number = (name: string, given: number | undefined, parameter: string | undefined) => {
    const inUrl = parameter === undefined ? null : url.searchParams.get(parameter);
    return integerFrom(name, given, inUrl ?? env[name], () => missing(name));
  };
  const names = launcherVariables(env);
  const rank = number(names.rank, options.rank, "rank");
  const worldSize = number(names.worldSize, options.worldSize, "world_size");
  const host = env.MASTER_ADDR;
  if (host === undefined || host === "") throw missing("MASTER_ADDR");
  const port = number("MASTER_PORT", undefined, undefined);
  checkPort(port);
  const hostedByLauncher = env.TORCHELASTIC_USE_AGENT_STORE?.toLowerCase() === "true";
  const attempt = env.TORCHELASTIC_RESTART_COUNT ?? "";
  return meet({ host, port, rank, worldSize, hostedByLauncher, attempt }, options);
}
