import { expect, test } from "bun:test";
import { InvalidArgumentError } from "../../errors/index.ts";
import { chosenImplementation, launcherOf, tasksOfSrun } from "./implementation.ts";

const openmpi = { OMPI_COMM_WORLD_RANK: "0", OMPI_COMM_WORLD_SIZE: "2", OMPI_COMM_WORLD_LOCAL_SIZE: "2" };
const mpich = { PMI_RANK: "0", PMI_SIZE: "4", MPI_LOCALNRANKS: "2" };

test("the launcher of the process decides", () => {
  expect(launcherOf({})).toBeUndefined();
  expect(launcherOf(openmpi)).toEqual({ implementation: "openmpi", isSure: true, oneHost: true });
  expect(launcherOf(mpich)).toEqual({ implementation: "mpich", isSure: true, oneHost: false });
  expect(launcherOf({ ...openmpi, ...mpich })?.implementation).toBe("openmpi");
  expect(chosenImplementation(undefined, openmpi)).toBe("openmpi");
  expect(chosenImplementation("mpich", mpich)).toBe("mpich");
});

test("without a launcher the option decides", () => {
  expect(chosenImplementation(undefined, {})).toBeUndefined();
  expect(chosenImplementation("mpich", {})).toBe("mpich");
});

test("an option that contradicts the launcher is refused, except under Slurm, which speaks both protocols", () => {
  expect(() => chosenImplementation("openmpi", mpich)).toThrow(InvalidArgumentError);
  expect(() => chosenImplementation("openmpi", mpich)).toThrow(/mpirun of mpich.*Use mpirun.openmpi/);
  expect(chosenImplementation("openmpi", { ...mpich, SLURM_PROCID: "0" })).toBe("openmpi");
});

test("srun's tasks are counted if srun started them, and not an mpirun inside its job", () => {
  const step = { SLURM_JOB_ID: "7", SLURM_STEP_ID: "0", SLURM_STEP_NUM_TASKS: "4", SLURM_STEP_NUM_NODES: "1" };
  const byPmix = { ...step, PMIX_RANK: "0", PMIX_NAMESPACE: "slurm.pmix.7.0" };
  const byPmi2 = { ...step, PMI_RANK: "0", PMI_SIZE: "4", PMI_JOBID: "7.0" };
  for (const env of [step, byPmix, byPmi2]) expect(tasksOfSrun(env)).toBe(4);
  for (const env of [byPmix, byPmi2]) expect(launcherOf(env)?.oneHost).toBe(true);
  expect(launcherOf({ ...byPmix, SLURM_STEP_NUM_NODES: "2" })?.oneHost).toBe(false);
  expect(tasksOfSrun({})).toBeUndefined();
  expect(tasksOfSrun({ ...step, ...openmpi })).toBeUndefined();
  expect(tasksOfSrun({ ...byPmix, PMIX_NAMESPACE: "prterun-head-1@1" })).toBeUndefined();
  expect(tasksOfSrun({ ...byPmi2, PMI_JOBID: undefined })).toBeUndefined();
  // The script of a batch job is one process, whatever the job asks for.
  expect(tasksOfSrun({ SLURM_JOB_ID: "7", SLURM_PROCID: "0", SLURM_NTASKS: "4" })).toBeUndefined();
});
