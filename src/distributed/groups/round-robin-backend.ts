import type { OpCall } from "../../collectives/index.ts";
import { roundRobin } from "../../middleware/round-robin.ts";
import { abortAll, callAll, type Pipeline, throwFirst } from "../../process-group/index.ts";
import { Backend, type Capabilities, commonCapabilities, type Submit } from "../../registry/index.ts";
import type { GroupState, Work } from "../../work/index.ts";

/**
 * Several pipelines of the same ranks as one backend, whose collectives overlap on separate connections: {@link
 * roundRobin}.
 */
export class RoundRobinBackend extends Backend {
  override readonly name = "round_robin";
  override readonly capabilities: Capabilities;
  readonly #pipelines: readonly Pipeline[];
  readonly #submit: Submit;

  constructor(first: Pipeline, others: readonly Pipeline[]) {
    super(first.rank, first.size);
    this.#pipelines = [first, ...others];
    this.#submit = roundRobin(this.#pipelines.map((pipeline) => (calls) => pipeline.submit(calls)));
    const common = commonCapabilities(this.#pipelines.map(({ capabilities }) => capabilities));
    // It would name the ranks missing on one communicator only: the process group makes it of messages.
    const { monitoredBarrier: _, ...ops } = common.ops;
    this.capabilities = { ...common, ops };
  }

  override submit(calls: readonly OpCall[]): readonly Work<void>[] {
    return this.#submit(calls);
  }

  /** {@link submit} refuses calls that come too late with the pipelines' own errors. */
  override refuse(calls: readonly OpCall[]): readonly Work<void>[] {
    return this.submit(calls);
  }

  override get state(): GroupState {
    return this.#pipelines.find(({ state }) => state !== "OPEN")?.state ?? "OPEN";
  }

  override get inFlight(): number {
    return this.#pipelines.reduce((sum, { inFlight }) => sum + inFlight, 0);
  }

  override enableTiming(): void {
    callAll("enableTiming()", this.#pipelines, (pipeline) => pipeline.enableTiming());
  }

  override abort(reason: string): void {
    abortAll(this.#pipelines, reason);
  }

  override async drained(): Promise<void> {
    throwFirst(await Promise.allSettled(this.#pipelines.map((pipeline) => pipeline.drained())));
  }

  // No close(): the backends belong to the groups.
}
