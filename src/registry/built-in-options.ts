import type { OptionsOf } from "./backend-options-by-name.ts";

/** Options of the Gloo backend. */
export type GlooOptions = OptionsOf<"gloo">;
/** Options of the MPI backend. */
export type MpiOptions = OptionsOf<"mpi">;
/** Options of the NCCL backend. c10d: `ProcessGroupNCCL.Options`. */
export type NcclOptions = OptionsOf<"nccl">;
/** Fields of `ncclConfig_t`. c10d: `ProcessGroupNCCL.NCCLConfig`. */
export type NcclConfig = NonNullable<NcclOptions["config"]>;
/** Options of the fake backend. */
export type FakeOptions = OptionsOf<"fake">;
