import { environmentText } from "../../environment/index.ts";
import { BackendUnavailableError, DistError } from "../../errors/index.ts";
import { type BackendPlugin, BackendType, type LaunchedWorld } from "../../registry/index.ts";
import { NativeBackend } from "../native/native-backend.ts";
import { probeShim } from "../native/probe-shim.ts";
import { capabilities } from "./capabilities.ts";
import { decide, decidingStore } from "./creation-decision.ts";
import { chosenImplementation, launcherOf, loadMpiShim, mpiRemedy, tasksOfSrun } from "./implementation.ts";
import { MpiProcess, type MpiTerms } from "./mpi-process.ts";
import type { MpiOptions } from "./options.ts";

const NAME = "mpi";

/** MPI: collectives with the machine's own libmpi, Open MPI's or MPICH's; started by mpirun, mpiexec or srun. */
const plugin: BackendPlugin<MpiOptions> = {
  name: NAME,
  type: BackendType.MPI,
  sdk: 2,
  module: import.meta.url,
  devices: ["cpu"],
  bootstrap: "self",
  capabilities,

  probe: () => probeShim(() => loadMpiShim(chosenImplementation(undefined), ""), mpiRemedy),

  async options() {
    return (await import("./options-schema.ts")).schema;
  },

  async launched({ timeoutMs, options }): Promise<LaunchedWorld> {
    const launcher = launcherOf();
    const wanted = Number(environmentText("WORLD_SIZE") ?? tasksOfSrun() ?? 1);
    if (launcher === undefined && wanted > 1) throw notLaunched(wanted, "was not started by mpirun, mpiexec or srun");
    const shim = loadMpiShim(chosenImplementation(options.implementation));
    const mpi = await MpiProcess.begin(shim, termsOf(options, timeoutMs));
    if (wanted > 1 && wanted !== mpi.size) throw notLaunched(wanted, `is one of ${mpi.size} to ${shim.version}`);
    return {
      rank: mpi.rank,
      worldSize: mpi.size,
      oneHost: launcher?.oneHost ?? mpi.size === 1,
      ...(!mpi.mixed && { share: (value: Uint8Array) => mpi.share(value, timeoutMs) }),
    };
  },

  async create(context) {
    const { options, globalRanks, groupName, timeoutMs } = context;
    const implementation = chosenImplementation(options.implementation);
    // Later groups use the shim that the process uses already.
    const begun = implementation === undefined ? MpiProcess.shim : undefined;
    const shim = begun ?? loadMpiShim(implementation);
    const mpi = await MpiProcess.begin(shim, termsOf(options, timeoutMs));
    const turn = mpi.takeTurn();
    const settings = {
      turn: String(turn),
      ranks: globalRanks.join(","),
      name: groupName,
      ...(mpi.mixed && { mixed: "1" }),
      ...(options.maxCount !== undefined && { max_count: String(options.maxCount) }),
    };
    try {
      const store = decidingStore(context.store);
      return await NativeBackend.connect(shim, { ...context, store }, settings, capabilities);
    } catch (error) {
      const missing = error instanceof DistError ? (error.details.peers ?? []) : [];
      void decide(context.store, context.rank).then((decision) => mpi.settle(turn, decision, missing));
      throw error;
    }
  },
};

function termsOf({ threads = "multiple", mixed = false }: MpiOptions, limitMs: number): MpiTerms {
  return { threads, mixed, limitMs };
}

function notLaunched(wanted: number, what: string): BackendUnavailableError {
  if (environmentText("WORLD_SIZE") === undefined) {
    return new BackendUnavailableError(
      `backend "mpi": srun has started ${wanted} tasks, but not by the protocol of this MPI, so each is alone. Use ` +
        "srun --mpi=pmix with Open MPI, --mpi=pmi2 with MPICH; `srun --mpi=list` lists what this Slurm supports.",
      { code: "NOT_LAUNCHED", backend: NAME },
    );
  }
  return new BackendUnavailableError(
    `backend "mpi": WORLD_SIZE is ${wanted}, but this process ${what}. \`c10d run\` and torchrun cannot start ` +
      `MPI ranks: start the job with \`mpirun -n ${wanted} bun script.ts\`, or use another backend, such as gloo.`,
    { code: "NOT_LAUNCHED", backend: NAME },
  );
}

export default plugin;
