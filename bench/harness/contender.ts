import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { TCPStoreServer } from "../../src/store/index.ts";
import { LineProcess } from "./line-process.ts";
import { rankEnv } from "./rank-env.ts";
import { median } from "./samples.ts";
import { OWN_TREE, shimsOf } from "./tree.ts";

/** What is measured; for `ping-pong`, the round trip. */
export const opKinds = [
  "all-reduce",
  "broadcast",
  "all-gather",
  "reduce-scatter",
  "all-to-all",
  "barrier",
  "ping-pong",
] as const;

export type OpKind = (typeof opKinds)[number];

export interface Job {
  /** `await` is for Bun only. C++ makes the shim's calls, or with `stock` calls Gloo as PyTorch does. */
  readonly mode: "wait" | "await" | "stock";
  readonly op: OpKind;
  /** Size of the whole: the output of an all-gather, the input of a reduce-scatter. */
  readonly bytes: number;
  readonly warmUp: number;
  readonly iterations: number;
  /** Number of buffers used in turn. */
  readonly buffers: number;
}

/** Enough iterations for a steady median, few enough for many short rounds. */
export function repetitions(bytes: number): Pick<Job, "bytes" | "warmUp" | "iterations"> {
  if (bytes <= 2 ** 13) return { bytes, warmUp: 50, iterations: 300 };
  if (bytes <= 2 ** 16) return { bytes, warmUp: 20, iterations: 150 };
  if (bytes <= 2 ** 20) return { bytes, warmUp: 8, iterations: 40 };
  if (bytes <= 2 ** 24) return { bytes, warmUp: 2, iterations: 8 };
  return { bytes, warmUp: 1, iterations: 4 };
}

/** Times of a job: microseconds of each iteration, on the slower rank. */
export interface Result {
  readonly micros: readonly number[];
}

const WORLD_SIZE = 2;

/** A backend whose ranks are processes that run jobs. */
export type Native = "gloo" | "ucc";

/** The command with the libraries that have UCC: those of a sysroot, if there is one. */
function withUcc(wrapper: "bun" | "run", command: readonly string[]): string[] {
  const path = fileURLToPath(new URL(`../../.tools/ucc/${wrapper}`, import.meta.url));
  if (existsSync(path)) return [path, ...command];
  return wrapper === "bun" ? [process.execPath, ...command] : [...command];
}

/** The Python with PyTorch, if there is one. */
export function torchPython(): string | undefined {
  const python = fileURLToPath(new URL("../../.tools/torch/bin/python", import.meta.url));
  return existsSync(python) ? python : undefined;
}

/** Two connected ranks that wait for jobs. They use no CPU while they wait, so that several can take turns. */
export class Contender implements AsyncDisposable {
  /** Bun with a backend of this checkout, or of another one that has been built, such as an earlier commit. */
  static async bun({
    backend = "gloo",
    tree = OWN_TREE,
  }: {
    backend?: Native;
    tree?: string | undefined;
  } = {}): Promise<Contender> {
    const server = await TCPStoreServer.listen({ host: "127.0.0.1", port: 0 });
    const program = join(tree, "bench/ranks/bun-rank.ts");
    const env = { C10D_BENCH_BACKEND: backend, C10D_NATIVE_DIR: shimsOf(tree) };
    return Contender.#start(
      (rank) => ({
        cmd: backend === "ucc" ? withUcc("bun", [program]) : [process.execPath, program],
        env: { ...rankEnv(rank, WORLD_SIZE, server.port), ...env },
      }),
      () => server.close(),
    );
  }

  /** PyTorch, with its default number of threads or this one. */
  static async torch(threads?: number): Promise<Contender> {
    const python = torchPython();
    if (python === undefined) throw new Error("PyTorch is absent: run ./bootstrap torch");
    const server = await TCPStoreServer.listen({ host: "127.0.0.1", port: 0 });
    const program = fileURLToPath(new URL("../ranks/torch_rank.py", import.meta.url));
    const limit = threads === undefined ? {} : { OMP_NUM_THREADS: String(threads) };
    return Contender.#start(
      (rank) => ({ cmd: [python, program], env: { ...rankEnv(rank, WORLD_SIZE, server.port), ...limit } }),
      () => server.close(),
    );
  }

  /** The same library, called from C++. */
  static async cpp(library: Native): Promise<Contender> {
    const program = join(shimsOf(OWN_TREE), `../bin/${library}_bench`);
    if (!existsSync(program)) throw new Error(`${program} is absent: run ./bootstrap build`);
    const folder = await mkdtemp(join(tmpdir(), `${library}-bench-`));
    return Contender.#start(
      (rank) => {
        const command = [program, String(rank), String(WORLD_SIZE), folder];
        return { cmd: library === "ucc" ? withUcc("run", command) : command };
      },
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

  async run({ mode, op, bytes, warmUp, iterations, buffers }: Job): Promise<Result> {
    const line = `${mode} ${op} ${bytes} ${warmUp} ${iterations} ${buffers}`;
    const results = (await Promise.all(this.#ranks.map((rank) => rank.ask(line)))) as Result[];
    return results.reduce((slower, each) => (median(each.micros) > median(slower.micros) ? each : slower));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync();
  }
}
