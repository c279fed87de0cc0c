import { join } from "node:path";
import { ownFolder } from "./own-folder.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * The folder of an Open MPI job whose ranks are all on this host. mpirun makes it for the job, for its user alone, and
 * removes it with all that is in it. Undefined where there is none, or where others could put something there.
 */
export function sessionFolder(env: Environment, worldSize: number): string | undefined {
  const { OMPI_COMM_WORLD_SIZE, OMPI_COMM_WORLD_LOCAL_SIZE, PMIX_SERVER_TMPDIR, PMIX_NAMESPACE } = env;
  if (Number(OMPI_COMM_WORLD_LOCAL_SIZE) !== worldSize || Number(OMPI_COMM_WORLD_SIZE) !== worldSize) return undefined;
  return PMIX_NAMESPACE ? ownFolder(PMIX_SERVER_TMPDIR) : undefined;
}

/** The path of a file in the folder of a job of Open MPI. */
export function sessionFile(env: Environment, worldSize: number): string | undefined {
  const folder = sessionFolder(env, worldSize);
  return folder && join(folder, `bun-c10d-${(env.PMIX_NAMESPACE ?? "").replaceAll(/[^\w.@-]/g, "_")}`);
}
