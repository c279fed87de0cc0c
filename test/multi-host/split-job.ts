import { randomBytes } from "node:crypto";
import type { SpawnOptions } from "bun-c10d/testing";
import { CliProcess } from "../../src/cli/fixtures/cli-process.ts";
import { TwoHosts } from "./two-hosts.ts";

const [address] = TwoHosts.addresses;
const place =
  'if [ "$RANK" = "$FAR_RANK" ]; then host=$FAR_HOST; else host=$NEAR_HOST; fi; exec ip netns exec "$host" "$@"';

export interface SplitJobOptions {
  /** The command that runs a rank; this Bun by default. */
  readonly runtime?: readonly string[];
  /** Time-out of the job in milliseconds. */
  readonly limitMs?: number;
}

/** A job with one rank on its own host, and the store on the host of the others. */
export class SplitJob implements AsyncDisposable {
  /** @param hosts They remain when the job is disposed of. */
  static async make(hosts: TwoHosts, farRank: number, options: SplitJobOptions = {}): Promise<SplitJob> {
    const { runtime = [process.execPath], limitMs = 60_000 } = options;
    const secret = randomBytes(16).toString("hex");
    const store = new CliProcess(
      ["store", "--host", address, "--port", "0"],
      { C10D_STORE_SECRET: secret },
      { within: hosts.on(0), limitMs },
    );
    try {
      return new SplitJob(store, {
        runtime: ["sh", "-c", place, "sh", ...runtime],
        env: {
          FAR_RANK: String(farRank),
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

  readonly #store: CliProcess;
  /** Options for `spawnRanks` and `startRanks` that put the ranks on their hosts. */
  readonly options: SpawnOptions;

  private constructor(store: CliProcess, options: SpawnOptions) {
    this.#store = store;
    this.options = options;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#store[Symbol.asyncDispose]();
  }
}

async function portOf(store: CliProcess): Promise<number> {
  for (const end = performance.now() + 10_000; performance.now() < end; await Bun.sleep(10)) {
    const port = /^\S+:(\d+)\n/.exec(store.stdout)?.[1];
    if (port !== undefined) return Number(port);
  }
  throw new Error(`the store did not print its port: ${store.stderr}`);
}
