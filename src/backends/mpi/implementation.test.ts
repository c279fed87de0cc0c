import { expect, test } from "bun:test";
import { InvalidArgumentError } from "../../errors/index.ts";
import { chosenImplementation, launcherOf } from "./implementation.ts";

const openmpi = { OMPI_COMM_WORLD_RANK: "0", OMPI_COMM_WORLD_SIZE: "2", OMPI_COMM_WORLD_LOCAL_SIZE: "2" };
const mpich = { PMI_RANK: "0", PMI_SIZE: "4", MPI_LOCALNRANKS: "2" };

test("what started the process decides", () => {
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

test("an option that contradicts the launcher is refused, but under Slurm, which speaks both protocols", () => {
  expect(() => chosenImplementation("openmpi", mpich)).toThrow(InvalidArgumentError);
  expect(() => chosenImplementation("openmpi", mpich)).toThrow(/mpirun of mpich.*Use mpirun.openmpi/);
  expect(chosenImplementation("openmpi", { ...mpich, SLURM_PROCID: "0" })).toBe("openmpi");
});
