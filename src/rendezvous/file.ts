import { FileStore } from "../store/index.ts";
import { rendezvousError } from "./membership.ts";
import type { Rendezvous, RendezvousOptions } from "./rendezvous-handler.ts";
import { meetIn, membershipOf } from "./shared-place.ts";

/**
 * `file:///path?rank=&world_size=`: the ranks meet in a file, which the last one to close it removes; with
 * `any_owner=1` also in one that another user controls. The path is used as written, as in PyTorch: `%20` is three
 * characters. A URL object would rewrite it.
 */
export async function fileRendezvous(url: URL, options: RendezvousOptions, text: string): Promise<Rendezvous> {
  const { host, path } = partsOf(text);
  if (host !== "" && host !== "localhost") {
    throw rendezvousError("file", `the path must be absolute, as in file:///path, but a host comes first: ${host}`);
  }
  if (path === "" || path === "/") throw rendezvousError("file", "path missing");
  const membership = membershipOf("file", url, options);
  const anyOwner = url.searchParams.get("any_owner") === "1";
  return meetIn(path, membership, options, (limits) =>
    FileStore.open(path, membership.worldSize, { ...limits, anyOwner }),
  );
}

/** Host and path of a URL, split as Python's `urlparse` does. */
function partsOf(text: string): { readonly host: string; readonly path: string } {
  // Both kinds of URL parsers drop these.
  const cleaned = text.replaceAll(/[\t\r\n]/g, "").trimStart();
  const [, host = "", path = ""] = /^[^:]*:(?:\/\/([^/?#]*))?([^?#]*)/s.exec(cleaned) ?? [];
  return { host, path };
}
