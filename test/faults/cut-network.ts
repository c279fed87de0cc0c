import type { SpawnOptions } from "bun-c10d/testing";
import { SplitJob } from "../multi-host/split-job.ts";
import type { TwoHosts } from "../multi-host/two-hosts.ts";
import type { Cell } from "./cell.ts";

/** A job with one rank on its own host, whose link to the host of the others and of the store can be cut. */
export class CutNetwork implements AsyncDisposable {
  /** @param hosts They remain when the network is disposed of, and are connected again. */
  static async make(hosts: TwoHosts, { culprit }: Pick<Cell, "culprit">): Promise<CutNetwork> {
    return new CutNetwork(hosts, await SplitJob.make(hosts, culprit));
  }

  readonly #hosts: TwoHosts;
  readonly #job: SplitJob;
  #cut = false;

  private constructor(hosts: TwoHosts, job: SplitJob) {
    this.#hosts = hosts;
    this.#job = job;
  }

  /** Options for `startRanks` that put the ranks on their hosts. */
  get options(): SpawnOptions {
    return this.#job.options;
  }

  async cut(): Promise<void> {
    await this.#hosts.silence();
    this.#cut = true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#cut) await this.#hosts.reconnect();
    await this.#job[Symbol.asyncDispose]();
  }
}
