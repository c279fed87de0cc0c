/**
 * How the text of a variable is parsed. `flag` is on for `1`, `true`, `t`, `yes`, `y`, `on` and off for `0`, `false`,
 * `f`, `no`, `n`, `off`, in any case; any other text is refused. `secret` is not shown.
 */
export type EnvironmentType = "integer" | "flag" | "level" | "text" | "path" | "secret";

export interface EnvironmentVariable {
  readonly type: EnvironmentType;
  /** The value when the variable is unset, or a description if that is not fixed. */
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
    description: "Rank among the processes of this host; selects the device. Set by the launcher.",
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
    description: "Number of times the launcher has restarted the job. Set by the launcher.",
  },
  C10D_STORE_SECRET: {
    type: "secret",
    default: "none: PyTorch's open protocol",
    description:
      "Shared secret by which clients and server of the TCP store authenticate. c10d run makes one for each job.",
  },
  TORCH_WORKER_SERVER_SOCKET: {
    type: "path",
    default: "none: no server",
    description: "Path of the Unix socket that workerMain() serves the control plane on.",
  },
  TORCHELASTIC_MAX_RESTARTS: {
    type: "integer",
    default: "0",
    description: "Maximum number of restarts of the job. For scripts; set by the launcher.",
  },
  OMPI_COMM_WORLD_RANK: {
    type: "integer",
    default: "none",
    description: "Rank set by Open MPI's mpirun, used if RANK and WORLD_SIZE are unset.",
  },
  OMPI_COMM_WORLD_SIZE: {
    type: "integer",
    default: "none",
    description: "World size set by Open MPI's mpirun, used if RANK and WORLD_SIZE are unset.",
  },
  OMPI_COMM_WORLD_LOCAL_RANK: {
    type: "integer",
    default: "none",
    description: "Rank on this host, set by Open MPI's mpirun.",
  },
  OMPI_COMM_WORLD_LOCAL_SIZE: {
    type: "integer",
    default: "none",
    description:
      "Number of processes on this host, set by Open MPI's mpirun; if these are all, MASTER_ADDR is not needed.",
  },
  PMIX_SERVER_TMPDIR: {
    type: "path",
    default: "none",
    description: "Folder of an Open MPI job, where its ranks meet if all are on this host and MASTER_ADDR is unset.",
  },
  PMIX_NAMESPACE: {
    type: "text",
    default: "none",
    description: "Name of an Open MPI job, part of the name of the file through which its ranks meet.",
  },
  PMI_RANK: {
    type: "integer",
    default: "none",
    description: "Rank set by MPICH's mpiexec; Open MPI's has priority.",
  },
  PMI_SIZE: {
    type: "integer",
    default: "none",
    description: "World size set by MPICH's mpiexec; Open MPI's has priority.",
  },
  MPI_LOCALRANKID: {
    type: "integer",
    default: "none",
    description: "Rank on this host, set by MPICH's mpiexec.",
  },
  PMIX_RANK: {
    type: "integer",
    default: "none",
    description: "Rank set by a PMIx launcher: the mpi backend then uses Open MPI.",
  },
  PMI_ID: {
    type: "integer",
    default: "none",
    description: "Rank set by a launcher that uses PMI over a port: the mpi backend then uses MPICH.",
  },
  MPI_LOCALNRANKS: {
    type: "integer",
    default: "none",
    description: "Number of ranks on this host, set by MPICH's mpiexec.",
  },
  SLURM_PROCID: {
    type: "integer",
    default: "none",
    description: "Rank set by Slurm's srun; MPICH's has priority.",
  },
  SLURM_NTASKS: {
    type: "integer",
    default: "none",
    description: "World size set by Slurm's srun; MPICH's has priority.",
  },
  SLURM_LOCALID: {
    type: "integer",
    default: "none",
    description: "Rank on this host, set by Slurm's srun.",
  },
  PMI_FD: {
    type: "integer",
    default: "none",
    description:
      "Connection to MPICH's mpiexec or Slurm's srun, by which ranks without MASTER_ADDR agree on where to meet.",
  },
  PMI_JOBID: {
    type: "text",
    default: "none",
    description: "Job and step of srun --mpi=pmi2; shows whether the PMI_* variables are Slurm's.",
  },
  SLURM_JOB_ID: {
    type: "integer",
    default: "none",
    description: "Slurm job, part of the name of the place where its ranks meet.",
  },
  SLURM_STEP_ID: {
    type: "integer",
    default: "none",
    description: "Slurm step; a process of a job without it is not a task of srun.",
  },
  SLURM_STEP_NUM_TASKS: {
    type: "integer",
    default: "none",
    description: "Number of tasks of the Slurm step; must equal SLURM_NTASKS.",
  },
  SLURM_STEP_NUM_NODES: {
    type: "integer",
    default: "none",
    description: "Number of hosts of the Slurm step; on a single host, ranks meet through a file.",
  },
  SLURM_STEP_LAUNCHER_PORT: {
    type: "integer",
    default: "none",
    description: "Part of the name of the file through which ranks of a Slurm step meet.",
  },
  SLURM_CLUSTER_NAME: {
    type: "text",
    default: "none",
    description: "Part of the name of the file through which ranks of a Slurm step meet.",
  },
  SLURM_RESTART_COUNT: {
    type: "integer",
    default: "0",
    description: "Part of the name of the file through which ranks of a Slurm step meet.",
  },
  TMPDIR: {
    type: "path",
    default: "the system's",
    description: "Folder of the file through which ranks of a Slurm step meet.",
  },
  TORCH_DISTRIBUTED_DEBUG: {
    type: "level",
    default: "OFF",
    description: "OFF, INFO or DETAIL: how much is checked and logged.",
  },
  DDP_SET_LAST_BUCKET_CAP: {
    type: "flag",
    default: "False",
    description: "Whether the last bucket of DDP is the small one, rather than the first.",
  },
  TORCH_DIST_NAN_CHECK: {
    type: "flag",
    default: "False",
    description: "Looks for NaN in the tensors that a rank sends, and fails the op and its group before it begins.",
  },
  TORCH_NCCL_NAN_CHECK: {
    type: "flag",
    default: "False",
    description: "The same under an older name; on all backends.",
  },
  TORCH_NCCL_HIGH_PRIORITY: {
    type: "flag",
    default: "False",
    description:
      "Whether the nccl backend runs its ops in streams of high priority, as options.isHighPriorityStream does.",
  },
  TORCH_NCCL_USE_COMM_NONBLOCKING: {
    type: "flag",
    default: "True",
    description:
      "Whether NCCL's calls return at once, without which a communicator that hangs cannot be aborted; options.config.blocking has priority.",
  },
  TORCH_NCCL_NONBLOCKING_TIMEOUT: {
    type: "integer",
    default: "1800",
    description: "How long a call of NCCL may stay in progress, in seconds.",
  },
  TORCH_NCCL_COORD_CHECK_MILSEC: {
    type: "integer",
    default: "1000",
    description:
      "How often, in milliseconds, a rank of the nccl backend asks the store whether another one has failed while ops are in flight.",
  },
  C10D_NCCL_LIBRARY: {
    type: "path",
    default: "the system's, then that of Python's package nvidia-nccl",
    description: "Path of libnccl.so.2.",
  },
  VIRTUAL_ENV: {
    type: "path",
    default: "none",
    description: "Active environment of Python, whose package nvidia-nccl has an NCCL.",
  },
  CONDA_PREFIX: {
    type: "path",
    default: "none",
    description: "Active environment of Conda, which may have an NCCL.",
  },
  GLOO_SOCKET_IFNAME: {
    type: "text",
    default: "the interface that reaches the store",
    description: "Network interface that Gloo binds to.",
  },
  C10D_GLOO_HOST: {
    type: "text",
    default: "the address that reaches the store",
    description: "IP address that Gloo binds to; GLOO_SOCKET_IFNAME has priority.",
  },
  NCCL_SOCKET_IFNAME: {
    type: "text",
    default: "chosen by NCCL, the address that reaches the store for other connections",
    description:
      "Network interfaces that NCCL uses, also with = or ^; through the first one, ranks of other hosts monitor this one.",
  },
  UCX_NET_DEVICES: {
    type: "text",
    default: "all for UCX, the address that reaches the store for other connections",
    description:
      "Network devices that UCX uses; through the first IP interface among them, ranks of other hosts monitor this one.",
  },
  C10D_NATIVE_DIR: {
    type: "path",
    default: "the platform package, then the build tree",
    description: "Folder that is searched first for the native libraries.",
  },
  C10D_CUDA_LIBRARY: {
    type: "path",
    default: "libcuda.so.1 of the system, of WSL or of a container",
    description: "File of NVIDIA's driver for CUDA tensors.",
  },
  C10D_BACKEND: {
    type: "text",
    default: "cpu:gloo,cuda:nccl where NCCL and a CUDA device can be used, else gloo",
    description: "Backend of initProcessGroup if the call names none.",
  },
  C10D_BACKENDS: {
    type: "text",
    default: "none",
    description:
      "Modules whose default exports are your backends, e.g. pkg,./file.ts; paths are relative to the current folder.",
  },
  C10D_LOG_LEVEL: {
    type: "level",
    default: "warn; info or debug by TORCH_DISTRIBUTED_DEBUG",
    description: "Minimum level of messages on stderr: debug, info, warn, error or silent.",
  },
  C10D_CALL_SITES: {
    type: "flag",
    default: "True",
    description:
      "Whether each op remembers where it was called, for errors and the flight recorder; 0 saves 0.3 to 0.5 µs per op.",
  },
  C10D_TRACE_BUFFER_SIZE: {
    type: "integer",
    default: "2000",
    description: "Number of ops that the flight recorder of each container keeps; 0 turns it off.",
  },
  TORCH_FR_BUFFER_SIZE: {
    type: "integer",
    default: "none",
    description: "PyTorch's name for C10D_TRACE_BUFFER_SIZE, which has priority.",
  },
  TORCH_NCCL_TRACE_BUFFER_SIZE: {
    type: "integer",
    default: "none",
    description: "PyTorch's older name for TORCH_FR_BUFFER_SIZE, which has priority.",
  },
  C10D_TRACE_DIR: {
    type: "path",
    default: "none",
    description:
      "Folder in which each rank writes the flight recorder as trace_rank_N.json when its group fails, or before c10d run stops a rank that runs; c10d trace reads them.",
  },
  TORCH_FR_DUMP_TEMP_FILE: {
    type: "path",
    default: "none",
    description:
      "Prefix of the files in which each rank writes the flight recorder as a pickle, for torchfrtrace, when its group fails, or before c10d run stops a rank that runs; its rank is appended.",
  },
  TORCH_NCCL_DEBUG_INFO_TEMP_FILE: {
    type: "path",
    default: "none",
    description: "PyTorch's older name for TORCH_FR_DUMP_TEMP_FILE, which has priority.",
  },
  TORCH_NCCL_ENABLE_TIMING: {
    type: "flag",
    default: "False",
    description: "Whether all groups time their ops in the native library, as group.enableCollectivesTiming() does.",
  },
  NCCL_ENABLE_TIMING: {
    type: "flag",
    default: "False",
    description: "Deprecated name of TORCH_NCCL_ENABLE_TIMING.",
  },
  C10D_STATUS: {
    type: "flag",
    default: "True",
    description:
      "Whether each rank keeps a record of the op that it is in, which the other ranks, c10d run, its dashboard and c10d top read.",
  },
  C10D_STATUS_DIR: {
    type: "path",
    default: "a folder in /dev/shm, else in the temporary folder",
    description: "Folder of mode 0700 for these records. Set by c10d run.",
  },
  C10D_CHECK_DETACH: {
    type: "flag",
    default: "False",
    description:
      "For debugging: transfer(), structuredClone(), postMessage() and the like throw if they would detach a buffer in use by an op.",
  },
  TORCHELASTIC_ERROR_FILE: {
    type: "path",
    default: "none",
    description: "Set by torchrun, whose store supports no secret: C10D_STORE_SECRET is then ignored.",
  },
  OMP_NUM_THREADS: {
    type: "integer",
    default: "1 for the ranks of c10d run",
    description: "For native libraries; c10d run sets it if it is unset, as torchrun does.",
  },
  NO_COLOR: {
    type: "text",
    default: "none",
    description: "If not empty, c10d run prints without colours.",
  },
  FORCE_COLOR: {
    type: "integer",
    default: "what the terminal supports, for the ranks of c10d run",
    description: "Number of colours that ranks may use; c10d run sets it on a terminal if this and NO_COLOR are unset.",
  },
  C10D_SWEEP: {
    type: "text",
    default: "smoke",
    description: "smoke or full: how much testBackend() tests.",
  },
  C10D_SEED: {
    type: "integer",
    default: "the date",
    description: "Selects the sample of testBackend(), which prints its seed.",
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
