/** A library that this package has a shim for. */
export type MpiImplementation = "openmpi" | "mpich";

/** Options of the MPI backend: `initProcessGroup({ backend: "mpi", options: { … } })`. */
export interface MpiOptions {
  /** Which MPI, if the launcher of the process does not determine it. By default the first that is found. */
  readonly implementation?: MpiImplementation;
  /**
   * `"multiple"`: any thread may call MPI, if the library lets it; the default. `"single"`: one thread does, at some
   * cost in latency.
   */
  readonly threads?: "multiple" | "single";
  /**
   * Some ranks of the job are other programs, in Python or C. Default is `false`. Then the default group is
   * `MPI_COMM_WORLD` itself, and there is no common store.
   */
  readonly mixed?: boolean;
  /** Maximum number of elements of a native call, 2^30 by default: larger reductions and broadcasts take several. */
  readonly maxCount?: number;
}

declare module "../../registry/backend-options-by-name.ts" {
  interface BackendOptionsByName {
    readonly mpi: MpiOptions;
  }
}
