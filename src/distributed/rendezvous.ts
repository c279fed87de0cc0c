import type { DependencyContainer } from "tsyringe";
import { defaultContainer, resolveEverywhere } from "../registry/index.ts";
import {
  checkScheme,
  meetAt,
  RENDEZVOUS_HANDLER,
  type Rendezvous,
  type RendezvousHandler,
  type RendezvousOptions,
} from "../rendezvous/index.ts";

/** Options of {@link rendezvous}. */
export interface MeetingOptions extends RendezvousOptions {
  /** Container whose handlers are used. Defaults to the default container. */
  readonly container?: DependencyContainer;
}

/**
 * Registers a handler for URLs `scheme://…` in the default container: see {@link RENDEZVOUS_HANDLER}.
 *
 * c10d: `torch.distributed.rendezvous.register_rendezvous_handler`.
 * @throws InvalidArgumentError if the scheme already has one.
 */
export function registerRendezvousHandler(scheme: string, handler: RendezvousHandler): void {
  const container = defaultContainer();
  const added = { scheme, handler };
  checkScheme(added, resolveEverywhere(container, RENDEZVOUS_HANDLER));
  container.register(RENDEZVOUS_HANDLER, { useValue: added });
}

/**
 * Meets the other ranks of the job: `env://` (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT, or the ranks of Open MPI,
 * MPICH and Slurm),
 * `tcp://host:port?rank=&world_size=`, `file:///path?rank=&world_size=`,
 * `redis://host:port/db/prefix?rank=&world_size=` (also `rediss://` and `redis+unix://`), or a scheme of
 * {@link registerRendezvousHandler}.
 *
 * With `env://` and `tcp://` rank 0 hosts the store, in a Worker, unless the launcher does
 * (`TORCHELASTIC_USE_AGENT_STORE=True`). A file, or a prefix on a Redis server, can be used for one job only.
 *
 * c10d: `torch.distributed.rendezvous`.
 * @throws InvalidArgumentError for invalid URLs and variables, and when the ranks disagree on the world size;
 * DistStoreError `RANK_TAKEN` when the file or the prefix on the Redis server was used before; DistTimeoutError
 * `CONNECT_TIMEOUT`; DistNetworkError.
 */
export async function rendezvous(url: string, { container, ...options }: MeetingOptions = {}): Promise<Rendezvous> {
  return meetAt(url, options, resolveEverywhere(container ?? defaultContainer(), RENDEZVOUS_HANDLER));
}
