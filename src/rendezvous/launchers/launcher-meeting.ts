import { type Environment, processEnvironment } from "../../environment/index.ts";
import type { FolderFinding } from "../../files/index.ts";
import { FileStore } from "../../store/index.ts";
import { checkMembership, rendezvousError } from "../membership.ts";
import type { Rendezvous, RendezvousOptions } from "../rendezvous-handler.ts";
import { meetIn } from "../shared-place.ts";
import type { LauncherVariables } from "./launcher-variables.ts";
import { sessionFile } from "./open-mpi-session.ts";
import { meetByPmi, pmiSocket } from "./pmi-meeting.ts";
import { stepFile } from "./slurm-step.ts";

/** The number of meetings of this process so far. Each has its own file, since ranks leave it at different times. */
let meetings = 0;

/**
 * Meets the others by what their launcher offers: a folder of the job for ranks on one host, or a table of texts that
 * all of them can read. Undefined if it offers neither.
 * @throws InvalidArgumentError `UNTRUSTED_FOLDER` if another user owns that folder, or can enter it.
 */
export async function meetByLauncher(
  names: LauncherVariables,
  { rank, worldSize }: { readonly rank: number; readonly worldSize: number },
  options: RendezvousOptions,
): Promise<Rendezvous | undefined> {
  const env = options.env ?? processEnvironment();
  const file = fileOf(names, env, worldSize);
  if (file?.path !== undefined) {
    checkMembership(rank, worldSize);
    const path = `${file.path}-${meetings++}`;
    return meetIn(path, { rank, worldSize }, options, (limits) => FileStore.open(path, worldSize, limits));
  }
  const speaksPmi = names.rank === "PMI_RANK" || (names.rank === "SLURM_PROCID" && env.PMI_RANK !== undefined);
  const socket = speaksPmi ? pmiSocket(env) : undefined;
  // All ranks of the launcher must take part.
  if (socket === undefined || rank !== Number(env[names.rank]) || worldSize !== Number(env[names.worldSize])) {
    if (file?.fault === undefined) return undefined;
    const what = `the ranks of ${names.launcher} meet in a folder that no other user can enter, but ${file.fault}`;
    throw rendezvousError("env", `${what}, or tell them where: ${names.masterAdvice}`, "UNTRUSTED_FOLDER");
  }
  const oneHost = names.rank === "PMI_RANK" && env.MPI_LOCALNRANKS === env.PMI_SIZE;
  return meetByPmi(socket, { rank, worldSize, oneHost }, options);
}

function fileOf(names: LauncherVariables, env: Environment, worldSize: number): FolderFinding | undefined {
  if (names.rank === "OMPI_COMM_WORLD_RANK") return sessionFile(env, worldSize);
  if (names.rank === "SLURM_PROCID" && worldSize === Number(env.SLURM_NTASKS)) return stepFile(env);
  return undefined;
}
