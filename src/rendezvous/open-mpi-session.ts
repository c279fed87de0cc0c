import { statSync } from "node:fs";
import { isAbsolute, join } from "node:path";
import { FileStore } from "../store/index.ts";
import type { Rendezvous, RendezvousOptions } from "./rendezvous-handler.ts";
import { meetIn } from "./shared-place.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/** How often this process has met the others: each meeting has a file of its own, since ranks leave one at their own pace. */
let meetings = 0;

/**
 * The folder of an Open MPI job whose ranks are all on this host. mpirun makes it for the job, for its user alone, and
 * removes it with all that is in it. Undefined where there is none, or where others could put something there.
 */
export function sessionFolder(env: Environment, worldSize: number): string | undefined {
  const { OMPI_COMM_WORLD_SIZE, OMPI_COMM_WORLD_LOCAL_SIZE, PMIX_SERVER_TMPDIR: folder, PMIX_NAMESPACE } = env;
  if (Number(OMPI_COMM_WORLD_LOCAL_SIZE) !== worldSize || Number(OMPI_COMM_WORLD_SIZE) !== worldSize) return undefined;
  if (!folder || !isAbsolute(folder) || !PMIX_NAMESPACE) return undefined;
  const found = statSync(folder, { throwIfNoEntry: false });
  const own = found?.isDirectory() && found.uid === process.getuid?.() && (found.mode & 0o077) === 0;
  return own ? folder : undefined;
}

/** Meets the other ranks of an Open MPI job in a file in its folder. */
export function meetInSession(
  folder: string,
  membership: { readonly rank: number; readonly worldSize: number },
  options: RendezvousOptions,
): Promise<Rendezvous> {
  const namespace = (options.env ?? process.env).PMIX_NAMESPACE ?? "";
  const path = join(folder, `bun-c10d-${namespace.replaceAll(/[^\w.@-]/g, "_")}-${meetings++}`);
  return meetIn(path, membership, options, (limits) => FileStore.open(path, membership.worldSize, limits));
}
