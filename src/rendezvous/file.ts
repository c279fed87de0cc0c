import { FileStore } from "../store/index.ts";
import { rendezvousError } from "./membership.ts";
import type { Rendezvous, RendezvousOptions } from "./rendezvous-handler.ts";
import { meetIn, membershipOf } from "./shared-place.ts";

/** `file:///path?rank=&world_size=`: the ranks meet in a file, which the last one to leave removes. */
export async function fileRendezvous(url: URL, options: RendezvousOptions): Promise<Rendezvous> {
  if (url.hostname !== "") {
    throw rendezvousError("file", `the path must be absolute, as in file:///path, but a host comes first: ${url.host}`);
  }
  const path = decodeURIComponent(url.pathname);
  if (path === "" || path === "/") throw rendezvousError("file", "path missing");
  const membership = membershipOf("file", url, options);
  return meetIn(path, membership, options, (limits) => FileStore.open(path, membership.worldSize, limits));
}
