import { DebugLevel, environmentText, getDebugLevel } from "../environment/index.ts";
import { messageOf } from "../errors/index.ts";
import { type Logger as LogOutput, loggerOf } from "../registry/index.ts";
import { dtypes } from "../tensor/index.ts";
import { DDPLoggingData } from "./ddp-logging-data.ts";
import type { IterationTimes } from "./iteration-timer.ts";
import type { Reducer } from "./reducer.ts";

/** Numbers of logged iterations after which a line is written. */
const shownAfter: ReadonlySet<number> = new Set([10, 20, 50, 100, 500, 800, 1000]);

/** Facts of a model at its construction. */
export interface ConstructionData {
  readonly moduleName: string;
  readonly deviceIds?: readonly number[];
  /** -1 by default: none. */
  readonly outputDevice?: number;
  readonly broadcastBuffers?: boolean;
  readonly hasSyncBn?: boolean;
  readonly staticGraph?: boolean;
}

/**
 * Figures of a training: what the model and its buckets are, how long forward and backward passes and communication take,
 * and how much of the latter is hidden behind computing. The first 10 iterations are measured and then every 100th; the
 * averages are over the measured ones.
 *
 * c10d: `Logger` of DDP.
 */
export class Logger {
  readonly #reducer: Reducer;
  readonly #output: LogOutput;
  readonly #data = new DDPLoggingData();
  #measured = 0;
  /** How often each time was measured. */
  readonly #counts: Record<string, number> = {};

  /** @param output Where lines go at debug level INFO and above; by default the logger of the library. */
  constructor(reducer: Reducer, output: LogOutput = loggerOf()) {
    this.#reducer = reducer;
    this.#output = output;
  }

  /** Sets the facts that do not change. c10d: `set_construction_data_and_log`. */
  setConstructionDataAndLog(construction: ConstructionData): void {
    const { moduleName, deviceIds = [], outputDevice = -1, broadcastBuffers = true } = construction;
    const { parameters, group, settings } = this.#reducer;
    const { strsMap, intsMap } = this.#data;
    Object.assign(strsMap, environmentData());
    strsMap.module_name = moduleName;
    strsMap.backend_name = group.backendName();
    strsMap.device_ids = deviceIds.join(", ");
    strsMap.dtypes = [...new Set(parameters.map(({ dtype }) => dtypes[dtype].scalarType.toLowerCase()))]
      .sort()
      .join(", ");
    strsMap.bucket_sizes = this.#reducer.facts().bucketSizes.join(", ");
    intsMap.world_size = group.size;
    intsMap.rank = group.rank;
    intsMap.iteration = 0;
    intsMap.output_device = outputDevice;
    intsMap.broadcast_buffers = Number(broadcastBuffers);
    intsMap.has_sync_bn = Number(construction.hasSyncBn === true);
    intsMap.bucket_cap_bytes = settings.bucketBytesCap;
    intsMap.find_unused_parameters = Number(settings.findUnusedParameters);
    intsMap.gradient_as_bucket_view = Number(settings.gradientAsBucketView);
    intsMap.is_multi_device_module = 0;
    intsMap.num_parameter_tensors = parameters.length;
    intsMap.total_parameter_size_bytes = parameters.reduce((sum, { byteLength }) => sum + byteLength, 0);
    if (construction.staticGraph !== undefined) intsMap.static_graph = Number(construction.staticGraph);
    intsMap.static_graph ??= 0;
    intsMap.join_uneven_inputs ??= 0;
    this.#show("DDP Initialized with", ["world_size", "module_name", "num_parameter_tensors"]);
  }

  /** Adds the figures of the iteration before, if it was measured. Called at the start of one. c10d: `set_runtime_stats_and_log`. */
  setRuntimeStatsAndLog(): void {
    if (!this.#reducer.isSampled) return;
    this.#measured++;
    const { strsMap, intsMap } = this.#data;
    const { bucketSizes, hasRebuilt, bucketsReduced, unused, lastReadyOrder } = this.#reducer.facts();
    const { parameters } = this.#reducer;
    intsMap.iteration = this.#reducer.iterations;
    intsMap.num_buckets_reduced = bucketsReduced;
    intsMap.has_rebuilt_buckets = Number(hasRebuilt);
    if (hasRebuilt) {
      strsMap.rebuilt_bucket_sizes = bucketSizes.join(", ");
      strsMap.rebuilt_per_bucket_param_indices = this.#reducer.bucketIndices.map((each) => each.join(" ")).join(", ");
    }
    strsMap.prev_iteration_grad_ready_order_indices = lastReadyOrder.join(", ");
    intsMap.unused_parameter_size = unused.reduce((sum, index) => sum + (parameters[index]?.byteLength ?? 0), 0);
    intsMap.can_set_static_graph = Number(this.#reducer.ddpGraphStatic());
    this.#addTimes(this.#reducer.timer.times);
    if (shownAfter.has(this.#measured)) {
      this.#show(`DDP: iteration ${intsMap.iteration}`, [
        "avg_forward_compute_time",
        "avg_backward_compute_time",
        "avg_backward_comm_time",
        "avg_backward_compute_comm_overlap_time",
      ]);
    }
  }

  /** Records a failure. c10d: `set_error_and_log`. */
  setErrorAndLog(error: unknown): void {
    this.#data.intsMap.has_error = 1;
    this.#data.strsMap.error = typeof error === "string" ? error : messageOf(error);
    this.#data.intsMap.iteration = this.#reducer.iterations;
  }

  /** c10d: `_set_comm_hook_name`. */
  setCommHookName(name: string): void {
    this.#data.strsMap.comm_hook = name;
  }

  /** Training takes part in `Join`. c10d: `_set_uneven_input_join`. */
  setUnevenInputJoin(): void {
    this.#data.intsMap.join_uneven_inputs = 1;
  }

  /** c10d: `_set_static_graph`. */
  setStaticGraph(): void {
    this.#data.intsMap.static_graph = 1;
  }

  /** A copy of what is known. c10d: `_get_ddp_logging_data`. */
  getDdpLoggingData(): DDPLoggingData {
    const data = new DDPLoggingData();
    Object.assign(data.strsMap, this.#data.strsMap);
    Object.assign(data.intsMap, this.#data.intsMap);
    return data;
  }

  #addTimes(times: IterationTimes): void {
    const { intsMap } = this.#data;
    const measured: Readonly<Record<string, number>> = {
      forward_compute_time: times.forwardCompute,
      backward_compute_time: times.backwardCompute,
      backward_comm_time: times.backwardComm,
      backward_compute_comm_overlap_time: times.overlap,
    };
    for (const [name, ns] of Object.entries(measured)) {
      if (ns < 0) continue;
      intsMap[name] = ns;
      const count = (this.#counts[name] ?? 0) + 1;
      this.#counts[name] = count;
      const before = intsMap[`avg_${name}`] ?? 0;
      intsMap[`avg_${name}`] = Math.round(before + (ns - before) / count);
    }
    intsMap.forward_compute_time_start = times.forwardStart;
    intsMap.backward_compute_time_start = times.backwardStart;
    intsMap.backward_comm_time_start = times.commStart;
    intsMap.backward_compute_time_end = times.computeEnd;
    intsMap.backward_comm_time_end = times.commEnd;
  }

  #show(title: string, names: readonly string[]): void {
    if (getDebugLevel() === DebugLevel.OFF) return;
    const { strsMap, intsMap } = this.#data;
    const facts = names.map((name) => `${name}: ${strsMap[name] ?? intsMap[name]}`);
    this.#output.info(`[Rank ${intsMap.rank}] ${title} ${facts.join(", ")}`);
  }
}

function environmentData(): Record<string, string> {
  const of = (value: string | undefined) => (value === undefined || value === "" ? "N/A" : value);
  return {
    torch_distributed_debug: of(environmentText("TORCH_DISTRIBUTED_DEBUG")),
    master_addr: of(environmentText("MASTER_ADDR")),
    master_port: of(environmentText("MASTER_PORT")),
    gloo_socket_ifname: of(environmentText("GLOO_SOCKET_IFNAME")),
  };
}
