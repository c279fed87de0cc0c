import { RedisStore } from "../store/index.ts";
import { rendezvousError } from "./membership.ts";
import type { Rendezvous, RendezvousOptions } from "./rendezvous-handler.ts";
import { meetIn, membershipOf } from "./shared-place.ts";

/**
 * `redis://[[user]:password@]host[:port][/db][/prefix]?rank=&world_size=`, `rediss://…` or
 * `redis+unix:///socket?prefix=…`: the ranks meet on a Redis server; the last one to close it removes what they wrote
 * there.
 */
export async function redisRendezvous(url: URL, options: RendezvousOptions): Promise<Rendezvous> {
  const isSocket = url.protocol === "redis+unix:";
  if (isSocket ? url.pathname === "" || url.pathname === "/" : url.hostname === "") {
    throw rendezvousError("redis", isSocket ? "path missing" : "host missing");
  }
  const membership = membershipOf("redis", url, options);
  const where = `${isSocket ? url.pathname : `${url.host}${url.pathname}`}`;
  return meetIn(where, membership, options, (limits) =>
    RedisStore.connect(url.href, { ...limits, worldSize: membership.worldSize }),
  );
}
