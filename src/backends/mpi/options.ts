/** A library that this package has a shim for. */
export type MpiImplementation = "openmpi" | "mpich";

/** Options of the MPI backend: `initProcessGroup({ backend: "mpi", options: { … } })`. */
export interface MpiOptions {
  /** Which MPI, where that is not clear from what started the process. By default the first that is there. */
  readonly implementation?: MpiImplementation;
  /**
   * `"multiple"`: any thread may call MPI, if the library lets it; the default. `"single"`: one thread does, at some cost
   * in latency.
   */
  readonly threads?: "multiple" | "single";
  /**
   * Some ranks of the job are other programs, in Python or C. Default is `false`. Then the default group is
   * `MPI_COMM_WORLD` itself, and there is no store in common.
   */
  readonly mixed?: boolean;
  /** Elements of one native call at most, 2^30 by default: larger reductions and broadcasts are several calls. */
  readonly maxCount?: number;
}

declare module "../../registry/backend-options-by-name.ts" {
  interface BackendOptionsByName {
    readonly mpi: MpiOptions;
  }
}
