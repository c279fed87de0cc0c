import { describe, expect, test } from "bun:test";
import { InvalidArgumentError } from "../errors/index.ts";
import { getNodeLocalRank } from "./node-local-rank.ts";

const openMpi = { OMPI_COMM_WORLD_RANK: "5", OMPI_COMM_WORLD_SIZE: "8", OMPI_COMM_WORLD_LOCAL_RANK: "1" };
const mpich = { PMI_RANK: "5", PMI_SIZE: "8", MPI_LOCALRANKID: "2" };
const slurm = { SLURM_PROCID: "5", SLURM_NTASKS: "8", SLURM_LOCALID: "3" };

describe("getNodeLocalRank", () => {
  test.each([
    ["LOCAL_RANK", { LOCAL_RANK: "4" }, 4],
    ["LOCAL_RANK over those of other launchers", { LOCAL_RANK: "4", ...openMpi, ...slurm }, 4],
    ["Open MPI's", openMpi, 1],
    ["MPICH's", mpich, 2],
    ["Slurm's", slurm, 3],
    ["the nearest launcher's", { ...slurm, ...openMpi }, 1],
  ])("%s", (_, env, local) => {
    expect(getNodeLocalRank(undefined, env)).toBe(local);
    // The fallback must not be used.
    expect(getNodeLocalRank(7, env)).toBe(local);
  });

  test.each([
    ["nothing is set", {}],
    ["it is empty", { LOCAL_RANK: "" }],
    ["another launcher set the ranks", { RANK: "0", WORLD_SIZE: "2", ...slurm }],
    ["the launcher sets no local rank", { PMI_RANK: "5", PMI_SIZE: "8" }],
  ])("the fallback is used if %s", (_, env) => {
    expect(getNodeLocalRank(0, env)).toBe(0);
    expect(() => getNodeLocalRank(undefined, env)).toThrow("LOCAL_RANK is not in the environment");
    expect(() => getNodeLocalRank(undefined, env)).toThrow(InvalidArgumentError);
  });

  test("a value that is not a number is refused by the name of its variable", () => {
    expect(() => getNodeLocalRank(0, { LOCAL_RANK: "first" })).toThrow("LOCAL_RANK must be an integer");
    expect(() => getNodeLocalRank(0, { ...slurm, SLURM_LOCALID: "x" })).toThrow("SLURM_LOCALID must be an integer");
  });

  test("the process's own variables by default", () => {
    const before = process.env.LOCAL_RANK;
    try {
      process.env.LOCAL_RANK = "6";
      expect(getNodeLocalRank()).toBe(6);
    } finally {
      if (before === undefined) delete process.env.LOCAL_RANK;
      else process.env.LOCAL_RANK = before;
    }
  });
});
