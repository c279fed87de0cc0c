import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { TCPStoreServer } from "../../src/store/index.ts";
import { LineProcess } from "./line-process.ts";
import { rankEnv } from "./rank-env.ts";
import { median } from "./samples.ts";

export interface Job {
  /** `await` is for Bun only. */
  readonly mode: "wait" | "await";
  readonly bytes: number;
  readonly warmUp: number;
  readonly iterations: number;
  /** Number of buffers that take turns. */
  readonly buffers: number;
}

/** What a job took: microseconds of each iteration, of the slower rank. */
export interface Result {
  readonly micros: readonly number[];
}

const WORLD_SIZE = 2;

/** Two ranks that are connected and wait for jobs. While they wait they use no CPU, so that several can take turns. */
export class Contender implements AsyncDisposable {
  static async bun(): Promise<Contender> {
    const server = await TCPStoreServer.listen({ host: "127.0.0.1", port: 0 });
    const program = fileURLToPath(new URL("../ranks/bun-rank.ts", import.meta.url));
    return Contender.#start(
      (rank) => ({ cmd: [process.execPath, program], env: rankEnv(rank, WORLD_SIZE, server.port) }),
      () => server.close(),
    );
  }

  static async cpp(): Promise<Contender> {
    const program = fileURLToPath(new URL("../../build/release/bin/gloo_bench", import.meta.url));
    if (!existsSync(program)) throw new Error(`${program} is absent: run ./bootstrap build`);
    const folder = await mkdtemp(join(tmpdir(), "gloo-bench-"));
    return Contender.#start(
      (rank) => ({ cmd: [program, String(rank), String(WORLD_SIZE), folder] }),
      () => rm(folder, { recursive: true }),
    );
  }

  static async #start(
    describe: (rank: number) => ConstructorParameters<typeof LineProcess>[0],
    release: () => Promise<unknown>,
  ): Promise<Contender> {
    await using stack = new AsyncDisposableStack();
    stack.defer(async () => {
      await release();
    });
    const ranks = Array.from({ length: WORLD_SIZE }, (_, rank) => stack.use(new LineProcess(describe(rank))));
    await Promise.all(ranks.map((rank) => rank.answer()));
    return new Contender(ranks, stack.move());
  }

  readonly #ranks: readonly LineProcess[];
  readonly #stack: AsyncDisposableStack;

  private constructor(ranks: readonly LineProcess[], stack: AsyncDisposableStack) {
    this.#ranks = ranks;
    this.#stack = stack;
  }

  async run({ mode, bytes, warmUp, iterations, buffers }: Job): Promise<Result> {
    const line = `${mode} ${bytes} ${warmUp} ${iterations} ${buffers}`;
    const results = (await Promise.all(this.#ranks.map((rank) => rank.ask(line)))) as Result[];
    return results.reduce((slower, each) => (median(each.micros) > median(slower.micros) ? each : slower));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync();
  }
}
