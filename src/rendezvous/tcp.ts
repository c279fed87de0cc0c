import { type Environment, environmentFlag, processEnvironment } from "../environment/index.ts";
import { checkPort } from "../store/arguments.ts";
import { meet } from "./meet.ts";
import { integerFrom, missingParameter, rendezvousError } from "./membership.ts";
import type { Rendezvous, RendezvousOptions } from "./rendezvous-handler.ts";

/** `tcp://host:port?rank=&world_size=`: rank 0 hosts the store there. */
export async function tcpRendezvous(url: URL, options: RendezvousOptions): Promise<Rendezvous> {
  if (url.port === "") throw rendezvousError("tcp", "port number missing");
  const query = url.searchParams;
  const rank = integerFrom("rank", options.rank, query.get("rank"), () => missingParameter("tcp", "rank"));
  const worldSize = integerFrom("world_size", options.worldSize, query.get("world_size"), () =>
    missingParameter("tcp", "world size"),
  );
  const host = url.hostname.replace(/^\[(.*)\]$/, "$1");
  if (host === "") throw rendezvousError("tcp", "host missing");
  const port = Number(url.port);
  checkPort(port);
  const env: Environment = options.env ?? processEnvironment();
  const hostedByLauncher = environmentFlag("TORCHELASTIC_USE_AGENT_STORE", env) && Number(env.MASTER_PORT) === port;
  const attempt = (hostedByLauncher && env.TORCHELASTIC_RESTART_COUNT) || "";
  return meet({ host, port, rank, worldSize, hostedByLauncher, attempt }, options);
}
