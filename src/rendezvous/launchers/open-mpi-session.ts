import { existsSync } from "node:fs";
import { isAbsolute, join } from "node:path";
import type { Environment } from "../../environment/index.ts";
import { type FolderFinding, ownFolder } from "../../files/index.ts";

/**
 * The folder of an Open MPI job whose ranks are all on this host. mpirun creates it for the job, for its user alone,
 * and removes it with its contents. Undefined if there is none; a fault if other users could put something there.
 */
export function sessionFolder(env: Environment, worldSize: number): FolderFinding | undefined {
  const { OMPI_COMM_WORLD_SIZE, OMPI_COMM_WORLD_LOCAL_SIZE, PMIX_SERVER_TMPDIR, PMIX_NAMESPACE } = env;
  if (Number(OMPI_COMM_WORLD_LOCAL_SIZE) !== worldSize || Number(OMPI_COMM_WORLD_SIZE) !== worldSize) return undefined;
  if (!PMIX_NAMESPACE || !PMIX_SERVER_TMPDIR || !isAbsolute(PMIX_SERVER_TMPDIR)) return undefined;
  return existsSync(PMIX_SERVER_TMPDIR) ? ownFolder(PMIX_SERVER_TMPDIR) : undefined;
}

/** The path of a file in the folder of a job of Open MPI. */
export function sessionFile(env: Environment, worldSize: number): FolderFinding | undefined {
  const folder = sessionFolder(env, worldSize);
  if (folder?.path === undefined) return folder;
  return { path: join(folder.path, `bun-c10d-${(env.PMIX_NAMESPACE ?? "").replaceAll(/[^\w.@-]/g, "_")}`) };
}
