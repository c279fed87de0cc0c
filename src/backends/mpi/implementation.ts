import { type Environment, processEnvironment } from "../../environment/index.ts";
import { BackendUnavailableError, InvalidArgumentError } from "../../errors/index.ts";
import { loadShim, type Shim } from "../../native/index.ts";
import type { MpiImplementation } from "./options.ts";

const REMEDY =
  "Install an MPI and build its shim: bun c10d build, or in a clone ./bootstrap build (on Debian and Ubuntu: apt-get install " +
  "pkg-config g++ cmake ninja-build, and libopenmpi-dev openmpi-bin or libmpich-dev mpich).";

/** In the order in which they are tried. */
export const implementations: readonly MpiImplementation[] = ["openmpi", "mpich"];

/** What started this process as one of several ranks. */
export interface Launcher {
  readonly implementation: MpiImplementation;
  /** False if another MPI may be meant: Slurm speaks the protocols of both. */
  readonly isSure: boolean;
  /** Whether all ranks are on this host. */
  readonly oneHost: boolean;
}

/** The launcher, recognised by its variables; undefined for a process that was started on its own. */
export function launcherOf(env: Environment = processEnvironment()): Launcher | undefined {
  const isSure = env.SLURM_PROCID === undefined || env.OMPI_COMM_WORLD_RANK !== undefined;
  const onOneNode = tasksOfSrun(env) !== undefined && env.SLURM_STEP_NUM_NODES === "1";
  const same = (local: string | undefined, all: string | undefined) =>
    onOneNode || (local !== undefined && local === all);
  if (env.OMPI_COMM_WORLD_RANK !== undefined || env.PMIX_RANK !== undefined) {
    const oneHost = same(env.OMPI_COMM_WORLD_LOCAL_SIZE, env.OMPI_COMM_WORLD_SIZE);
    return { implementation: "openmpi", isSure, oneHost };
  }
  if (env.PMI_RANK !== undefined || env.PMI_ID !== undefined) {
    return { implementation: "mpich", isSure, oneHost: same(env.MPI_LOCALNRANKS, env.PMI_SIZE) };
  }
  return undefined;
}

/** How many tasks srun started together with this one; undefined if another launcher did, even under srun. */
export function tasksOfSrun(env: Environment = processEnvironment()): number | undefined {
  const { SLURM_JOB_ID, SLURM_STEP_ID, SLURM_STEP_NUM_TASKS, PMIX_NAMESPACE, PMI_JOBID } = env;
  if (!SLURM_STEP_ID || !SLURM_STEP_NUM_TASKS || env.OMPI_COMM_WORLD_RANK !== undefined) return undefined;
  const step = `${SLURM_JOB_ID}.${SLURM_STEP_ID}`;
  if (env.PMIX_RANK !== undefined && PMIX_NAMESPACE !== `slurm.pmix.${step}`) return undefined;
  if (env.PMI_RANK !== undefined && PMI_JOBID !== step) return undefined;
  return Number(SLURM_STEP_NUM_TASKS);
}

/**
 * Which MPI this process is to use: that of its launcher, else that of the option, else undefined for any.
 * @throws InvalidArgumentError when an option contradicts what started the process.
 */
export function chosenImplementation(
  option: MpiImplementation | undefined,
  env: Environment = processEnvironment(),
): MpiImplementation | undefined {
  const launcher = launcherOf(env);
  if (launcher === undefined || launcher.implementation === option) return option;
  if (option === undefined || !launcher.isSure) return option ?? launcher.implementation;
  throw new InvalidArgumentError(
    `options.implementation is "${option}", but this process was started by the mpirun of ${launcher.implementation}: ` +
      `its ranks would not find each other. Use mpirun.${option}, or leave the option out.`,
    { argument: "implementation", backend: "mpi" },
  );
}

/**
 * Loads the shim of an implementation, or of the first that is found.
 * @throws BackendUnavailableError saying where it looked and what to do.
 */
export function loadMpiShim(implementation: MpiImplementation | undefined, remedy = REMEDY): Shim {
  const errors: BackendUnavailableError[] = [];
  for (const each of implementation === undefined ? implementations : [implementation]) {
    try {
      return { ...loadShim({ name: `mpi_${each}`, remedy: "" }), name: "mpi" };
    } catch (error) {
      if (!(error instanceof BackendUnavailableError)) throw error;
      errors.push(error);
    }
  }
  const reasons = errors.map(({ message }) => message);
  throw new BackendUnavailableError([...reasons, ...(remedy ? [remedy] : [])].join("\n"), { backend: "mpi" });
}

export { REMEDY as mpiRemedy };
