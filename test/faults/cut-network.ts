import { randomBytes } from "node:crypto";
import type { SpawnOptions } from "bun-c10d/testing";
import { CliProcess } from "../../src/cli/fixtures/cli-process.ts";
import { TwoHosts } from "../multi-host/two-hosts.ts";
import type { Cell } from "./cell.ts";

const [address] = TwoHosts.addresses;
const place =
  'if [ "$RANK" = "$FAR_RANK" ]; then host=$FAR_HOST; else host=$NEAR_HOST; fi; exec ip netns exec "$host" "$@"';

/** A job with one rank on a host of its own, whose link to the host of the others and of the store can be cut. */
export class CutNetwork implements AsyncDisposable {
  /** @param hosts They stay when the network is disposed of, and hear each other again. */
  static async make(hosts: TwoHosts, { culprit }: Pick<Cell, "culprit">): Promise<CutNetwork> {
    const secret = randomBytes(16).toString("hex");
    const store = new CliProcess(
      ["store", "--host", address, "--port", "0"],
      { C10D_STORE_SECRET: secret },
      { within: hosts.on(0) },
    );
    try {
      return new CutNetwork(hosts, store, {
        runtime: ["sh", "-c", place, "sh", process.execPath],
        env: {
          FAR_RANK: String(culprit),
          NEAR_HOST: hosts.names[0],
          FAR_HOST: hosts.names[1],
          GLOO_SOCKET_IFNAME: "veth",
          MASTER_ADDR: address,
          MASTER_PORT: String(await portOf(store)),
          C10D_STORE_SECRET: secret,
        },
      });
    } catch (error) {
      await store[Symbol.asyncDispose]();
      throw error;
    }
  }

  #cut = false;

  private constructor(
    readonly hosts: TwoHosts,
    readonly store: CliProcess,
    /** Put the ranks of `startRanks` on their hosts. */
    readonly options: SpawnOptions,
  ) {}

  async cut(): Promise<void> {
    await this.hosts.silence();
    this.#cut = true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#cut) await this.hosts.hear();
    await this.store[Symbol.asyncDispose]();
  }
}

async function portOf(store: CliProcess): Promise<number> {
  for (const end = performance.now() + 10_000; performance.now() < end; await Bun.sleep(10)) {
    const port = /^\S+:(\d+)\n/.exec(store.stdout)?.[1];
    if (port !== undefined) return Number(port);
  }
  throw new Error(`the store did not tell its port: ${store.stderr}`);
}
