/**
 * How the text of a variable is read. `flag` is on for `1`, `true`, `t`, `yes`, `y`, `on` and off for `0`, `false`, `f`,
 * `no`, `n`, `off`, in any case; any other text is refused. `secret` is not shown.
 */
export type EnvironmentType = "integer" | "flag" | "level" | "text" | "path" | "secret";

export interface EnvironmentVariable {
  readonly type: EnvironmentType;
  /** What holds when the variable is unset, in words where it is no fixed value. */
  readonly default: string;
  readonly description: string;
  /** Passed between processes of this package, and of no concern to users: `c10d env` leaves it out. */
  readonly internal?: true;
}

/** Every environment variable that this package reads; `c10d env` prints this table. */
export const environmentVariables = {
  RANK: {
    type: "integer",
    default: "required by env://",
    description: "Global rank of this process, 0 to WORLD_SIZE - 1. Set by the launcher.",
  },
  WORLD_SIZE: {
    type: "integer",
    default: "required by env://",
    description: "Number of processes in the job. Set by the launcher.",
  },
  LOCAL_RANK: {
    type: "integer",
    default: "none",
    description: "Rank among the processes of this host; picks the device. Set by the launcher.",
  },
  LOCAL_WORLD_SIZE: {
    type: "integer",
    default: "none",
    description: "Number of processes on this host. Set by the launcher.",
  },
  MASTER_ADDR: {
    type: "text",
    default: "required by env://",
    description: "Host of the TCP store. Set by the launcher.",
  },
  MASTER_PORT: {
    type: "integer",
    default: "required by env://",
    description: "Port of the TCP store. Set by the launcher.",
  },
  TORCHELASTIC_USE_AGENT_STORE: {
    type: "flag",
    default: "False",
    description: "The launcher hosts the store, so that rank 0 is a client like the others.",
  },
  TORCHELASTIC_RESTART_COUNT: {
    type: "integer",
    default: "0",
    description: "How often the launcher has restarted the job. Set by the launcher.",
  },
  C10D_STORE_SECRET: {
    type: "secret",
    default: "none: PyTorch's open protocol",
    description:
      "What clients and server of the TCP store prove to each other to know. c10d run makes one for each job.",
  },
  TORCHELASTIC_MAX_RESTARTS: {
    type: "integer",
    default: "0",
    description: "How often the launcher restarts the job at most. For scripts; set by the launcher.",
  },
  OMPI_COMM_WORLD_RANK: {
    type: "integer",
    default: "none",
    description: "Rank by Open MPI's mpirun, where RANK and WORLD_SIZE are unset.",
  },
  OMPI_COMM_WORLD_SIZE: {
    type: "integer",
    default: "none",
    description: "World size by Open MPI's mpirun, where RANK and WORLD_SIZE are unset.",
  },
  OMPI_COMM_WORLD_LOCAL_RANK: {
    type: "integer",
    default: "none",
    description: "Rank on this host by Open MPI's mpirun.",
  },
  OMPI_COMM_WORLD_LOCAL_SIZE: {
    type: "integer",
    default: "none",
    description: "Number of processes on this host by Open MPI's mpirun; if these are all, they need no MASTER_ADDR.",
  },
  PMIX_SERVER_TMPDIR: {
    type: "path",
    default: "none",
    description: "Folder of an Open MPI job, in which its ranks meet if all are on this host and MASTER_ADDR is unset.",
  },
  PMIX_NAMESPACE: {
    type: "text",
    default: "none",
    description: "Name of an Open MPI job, part of the name of the file in which its ranks meet.",
  },
  PMI_RANK: {
    type: "integer",
    default: "none",
    description: "Rank by MPICH's mpiexec, after Open MPI's.",
  },
  PMI_SIZE: {
    type: "integer",
    default: "none",
    description: "World size by MPICH's mpiexec, after Open MPI's.",
  },
  MPI_LOCALRANKID: {
    type: "integer",
    default: "none",
    description: "Rank on this host by MPICH's mpiexec.",
  },
  PMIX_RANK: {
    type: "integer",
    default: "none",
    description: "Rank by a launcher that speaks PMIx: the mpi backend then uses Open MPI.",
  },
  PMI_ID: {
    type: "integer",
    default: "none",
    description: "Rank by a launcher that speaks PMI over a port: the mpi backend then uses MPICH.",
  },
  MPI_LOCALNRANKS: {
    type: "integer",
    default: "none",
    description: "Number of ranks on this host by MPICH's mpiexec.",
  },
  SLURM_PROCID: {
    type: "integer",
    default: "none",
    description: "Rank by Slurm's srun, after MPICH's.",
  },
  SLURM_NTASKS: {
    type: "integer",
    default: "none",
    description: "World size by Slurm's srun, after MPICH's.",
  },
  SLURM_LOCALID: {
    type: "integer",
    default: "none",
    description: "Rank on this host by Slurm's srun.",
  },
  PMI_FD: {
    type: "integer",
    default: "none",
    description:
      "Connection to MPICH's mpiexec or Slurm's srun, by which ranks without MASTER_ADDR tell each other where to meet.",
  },
  PMI_JOBID: {
    type: "text",
    default: "none",
    description: "Job and step of srun --mpi=pmi2; tells whether the PMI_* variables are Slurm's.",
  },
  SLURM_JOB_ID: {
    type: "integer",
    default: "none",
    description: "Job of Slurm, part of what names its ranks' meeting place.",
  },
  SLURM_STEP_ID: {
    type: "integer",
    default: "none",
    description: "Step of Slurm; without it a process of a job is none of srun's tasks.",
  },
  SLURM_STEP_NUM_TASKS: {
    type: "integer",
    default: "none",
    description: "Number of tasks of the step; has to be SLURM_NTASKS.",
  },
  SLURM_STEP_NUM_NODES: {
    type: "integer",
    default: "none",
    description: "Number of hosts of the step; with one, ranks meet in a file.",
  },
  SLURM_STEP_LAUNCHER_PORT: {
    type: "integer",
    default: "none",
    description: "Part of the name of that file, as the next two.",
  },
  SLURM_CLUSTER_NAME: {
    type: "text",
    default: "none",
    description: "Part of the name of the file in which ranks of one step meet.",
  },
  SLURM_RESTART_COUNT: {
    type: "integer",
    default: "0",
    description: "Part of the name of the file in which ranks of one step meet.",
  },
  TMPDIR: {
    type: "path",
    default: "the system's",
    description: "Folder in which ranks of one step of Slurm have that file.",
  },
  TORCH_DISTRIBUTED_DEBUG: {
    type: "level",
    default: "OFF",
    description: "OFF, INFO or DETAIL: how much is checked and logged.",
  },
  GLOO_SOCKET_IFNAME: {
    type: "text",
    default: "the interface that reaches the store",
    description: "Network interface that Gloo binds to.",
  },
  C10D_GLOO_HOST: {
    type: "text",
    default: "the address that reaches the store",
    description: "IP address that Gloo binds to; GLOO_SOCKET_IFNAME wins over it.",
  },
  UCX_NET_DEVICES: {
    type: "text",
    default: "all for UCX, the address that reaches the store for what goes beside it",
    description:
      "Network devices that UCX uses; at the first IP interface among them ranks of other hosts watch this one.",
  },
  C10D_NATIVE_DIR: {
    type: "path",
    default: "the platform package, then the build tree",
    description: "Folder in which the native libraries are looked up first.",
  },
  C10D_BACKEND: {
    type: "text",
    default: "gloo",
    description: "Backend of initProcessGroup where the call names none.",
  },
  C10D_BACKENDS: {
    type: "text",
    default: "none",
    description:
      "Modules whose default exports are backends of your own, as in pkg,./file.ts; paths start at the current folder.",
  },
  C10D_LOG_LEVEL: {
    type: "level",
    default: "warn; info or debug by TORCH_DISTRIBUTED_DEBUG",
    description: "The least severe remarks on stderr: debug, info, warn, error or silent.",
  },
  C10D_TRACE_BUFFER_SIZE: {
    type: "integer",
    default: "2000",
    description: "Ops that the flight recorder of each container keeps; 0 turns it off.",
  },
  TORCH_FR_BUFFER_SIZE: {
    type: "integer",
    default: "none",
    description: "PyTorch's name of C10D_TRACE_BUFFER_SIZE, which wins over it.",
  },
  C10D_CHECK_DETACH: {
    type: "flag",
    default: "False",
    description:
      "For debugging: transfer(), structuredClone(), postMessage() and the like throw where they would take a buffer away from an op.",
  },
  TORCHELASTIC_ERROR_FILE: {
    type: "path",
    default: "none",
    description: "Set by torchrun, whose store knows no secret: C10D_STORE_SECRET is then left unused.",
  },
  OMP_NUM_THREADS: {
    type: "integer",
    default: "1 for the ranks of c10d run",
    description: "For native libraries; c10d run sets it where it is unset, as torchrun does.",
  },
  NO_COLOR: {
    type: "text",
    default: "none",
    description: "If it is not empty, c10d run prints without colours.",
  },
  FORCE_COLOR: {
    type: "integer",
    default: "what the terminal can do, for the ranks of c10d run",
    description: "How many colours ranks may use; c10d run sets it on a terminal, where this and NO_COLOR are unset.",
  },
  C10D_SWEEP: {
    type: "text",
    default: "smoke",
    description: "smoke or full: how much testBackend() tries.",
  },
  C10D_SEED: {
    type: "integer",
    default: "the date",
    description: "Picks the sample of testBackend(); it prints the one that it took.",
  },
  C10D_RANK_CHANNEL: {
    type: "path",
    default: "none",
    description: "Socket by which a rank that spawnRanks() had a launcher start reports to it.",
    internal: true,
  },
  C10D_RANK_FOLDER: {
    type: "path",
    default: "none",
    description: "Folder of that socket, which the last rank removes.",
    internal: true,
  },
} as const satisfies Record<string, EnvironmentVariable>;

/** The variables that users may set. */
export const userVariables: readonly (readonly [EnvironmentName, EnvironmentVariable])[] = (
  Object.entries(environmentVariables) as [EnvironmentName, EnvironmentVariable][]
).filter(([, { internal }]) => internal !== true);

export type EnvironmentName = keyof typeof environmentVariables;

/** The names of the variables of some types. */
export type NameOfType<T extends EnvironmentType> = {
  [N in EnvironmentName]: (typeof environmentVariables)[N]["type"] extends T ? N : never;
}[EnvironmentName];
