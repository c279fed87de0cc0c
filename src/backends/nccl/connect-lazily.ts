import { DistNetworkError } from "../../errors/index.ts";
import type { Backend, BackendContext } from "../../registry/index.ts";
import type { Departures } from "./departures.ts";
import type { ConnectCommunicator } from "./lazy-backend.ts";
import type { Pair } from "./pair-work.ts";

/** Makes a communicator until the signal says that it is no longer wanted. */
type Make = (plan: Parameters<ConnectCommunicator>[0], signal: AbortSignal) => Promise<Backend>;

/** Makes communicators, and gives up when a rank that belongs to one has left the group before. */
export function connectLazily(
  { groupName: group, rank, size }: Pick<BackendContext, "groupName" | "rank" | "size">,
  departures: Departures,
  backend: string,
  make: Make,
): ConnectCommunicator {
  return async (plan) => {
    const { idKey, pair, device, signal } = plan;
    const ranks = pair === undefined ? Array.from({ length: size }, (_, each) => each) : [pair.low, pair.high];
    const left = new AbortController();
    const lossOf = (missing: number): DistNetworkError => {
      const [own, peer] = [rankIn(pair, rank), rankIn(pair, missing)];
      return new DistNetworkError(
        `group "${group}" (${backend}, rank ${own} of ${ranks.length}): rank ${peer} has closed the group, and does not ` +
          `take part in the communicator on cuda:${device.index}`,
        { code: "PEER_LOST", backend, group, rank: own, peers: [peer] },
      );
    };
    using _watch = departures.watch(idKey, ranks, (missing) => left.abort(lossOf(missing)));
    try {
      return await make(plan, AbortSignal.any([signal, left.signal]));
    } catch (error) {
      if (left.signal.aborted) throw left.signal.reason;
      // A third rank may have given up for that reason.
      const missing =
        error instanceof DistNetworkError && !signal.aborted ? await departures.missing(idKey, ranks) : undefined;
      throw missing === undefined ? error : lossOf(missing);
    }
  };
}

/** A rank of the group, among those of the communicator. */
function rankIn(pair: Pair | undefined, rank: number): number {
  return pair === undefined ? rank : [pair.low, pair.high].indexOf(rank);
}
