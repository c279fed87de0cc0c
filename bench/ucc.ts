/**
 * UCC by 2 ranks, float32, over shared memory: Bun with `wait()` and with `await` against a C++ program that calls the same
 * libucc itself, and with `--torch` against `torch.distributed` over Gloo. They take turns in short rounds.
 *
 *     bun bench/ucc.ts [--op all-reduce,broadcast,all-to-all] [--rounds 8] [--sizes 4,1024,65536] [--torch] [--json]
 */
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { TCPStoreServer } from "../src/store/index.ts";
import { Contender, repetitions } from "./harness/contender.ts";
import { LineProcess, type LineProcessOptions } from "./harness/line-process.ts";
import { rankEnv } from "./harness/rank-env.ts";
import { median, quantile, showBytes, showMicros, table } from "./harness/samples.ts";

const WORLD_SIZE = 2;
const SIZES = [4, 2 ** 10, 2 ** 16, 2 ** 20, 2 ** 24];
/** Buffers take turns so that a large one is not in the cache when its turn comes. */
const BUFFERS = 4;
const ops = ["all-reduce", "broadcast", "all-to-all"] as const;
const parties = ["C++", "wait", "await", "torch"] as const;

type Op = (typeof ops)[number];
type Party = (typeof parties)[number];

/** Figures of a party, in microseconds. */
interface Figures {
  readonly median: number;
  readonly p90: number;
  /** Least median of a round. */
  readonly best: number;
  /** Median over the rounds of how many times as long as C++ it took in the same round. */
  readonly ratio: number;
  /** Median over the rounds of how much longer than C++ it took. */
  readonly extra: number;
}

const tools = fileURLToPath(new URL("../.tools/ucc/", import.meta.url));

/** The command on the libraries that have UCC. */
function withUcc(name: "bun" | "run", command: readonly string[]): string[] {
  const wrapper = join(tools, name);
  if (existsSync(wrapper)) return [wrapper, ...command];
  return name === "bun" ? [process.execPath, ...command] : [...command];
}

/** Ranks that wait for jobs. */
class Ranks implements AsyncDisposable {
  static async start(describe: (rank: number) => LineProcessOptions): Promise<Ranks> {
    await using stack = new AsyncDisposableStack();
    const ranks = Array.from({ length: WORLD_SIZE }, (_, rank) => stack.use(new LineProcess(describe(rank))));
    await Promise.all(ranks.map((rank) => rank.answer()));
    return new Ranks(ranks, stack.move());
  }

  readonly #ranks: readonly LineProcess[];
  readonly #stack: AsyncDisposableStack;

  private constructor(ranks: readonly LineProcess[], stack: AsyncDisposableStack) {
    this.#ranks = ranks;
    this.#stack = stack;
  }

  /** Microseconds of each iteration, of the slower rank. */
  async run(mode: "wait" | "await", op: Op, bytes: number): Promise<readonly number[]> {
    const { warmUp, iterations } = repetitions(bytes);
    const line = `${mode} ${op} ${bytes} ${warmUp} ${iterations} ${BUFFERS}`;
    const answers = await Promise.all(this.#ranks.map((rank) => rank.ask(line)));
    return answers
      .map((answer) => (answer as { readonly micros: readonly number[] }).micros)
      .reduce((slower, each) => (median(each) > median(slower) ? each : slower));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync();
  }
}

type Turn = (op: Op, bytes: number) => Promise<readonly number[]>;

async function compare(
  turns: ReadonlyMap<Party, Turn>,
  op: Op,
  bytes: number,
  rounds: number,
): Promise<Map<Party, Figures>> {
  const order = [...turns];
  const taken = new Map<Party, (readonly number[])[]>(order.map(([party]) => [party, []]));
  for (let round = 0; round < rounds; round++) {
    // Nobody is always first.
    const first = round % order.length;
    for (const [party, turn] of [...order.slice(first), ...order.slice(0, first)]) {
      taken.get(party)?.push(await turn(op, bytes));
    }
  }
  const base = (taken.get("C++") ?? []).map(median);
  return new Map(
    [...taken].map(([party, rounds]) => {
      const medians = rounds.map(median);
      const all = rounds.flat();
      return [
        party,
        {
          median: median(all),
          p90: quantile(all, 0.9),
          best: Math.min(...medians),
          ratio: median(medians.map((each, i) => each / (base[i] ?? Number.NaN))),
          extra: median(medians.map((each, i) => each - (base[i] ?? Number.NaN))),
        },
      ];
    }),
  );
}

function report(op: Op, rows: readonly (readonly [number, Map<Party, Figures>])[]): string {
  const header = [`${op}, 2 ranks`];
  for (const party of rows[0]?.[1].keys() ?? []) {
    header.push(party, "best");
    if (party !== "C++") header.push("ratio", "extra");
  }
  const lines = rows.map(([bytes, by]) => {
    const cells = [showBytes(bytes)];
    for (const [party, each] of by) {
      cells.push(showMicros(each.median), showMicros(each.best));
      if (party !== "C++") cells.push(each.ratio.toFixed(2), showMicros(each.extra));
    }
    return cells;
  });
  return table([header, ...lines]);
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      op: { type: "string", default: ops.join(",") },
      rounds: { type: "string", default: "8" },
      sizes: { type: "string", default: SIZES.join(",") },
      torch: { type: "boolean", default: false },
      json: { type: "boolean", default: false },
    },
  });
  const shims = process.env.C10D_NATIVE_DIR ?? fileURLToPath(new URL("../build/release/lib", import.meta.url));
  const program = join(shims, "../bin/ucc_bench");
  if (!existsSync(program)) throw new Error(`${program} is absent: run ./bootstrap build`);
  await using stack = new AsyncDisposableStack();
  const server = await TCPStoreServer.listen({ host: "127.0.0.1", port: 0 });
  stack.defer(() => server.close());
  const folder = await mkdtemp(join(tmpdir(), "ucc-bench-"));
  stack.defer(() => rm(folder, { recursive: true }));
  const rank = fileURLToPath(new URL("ranks/bun-rank.ts", import.meta.url));
  const cpp = stack.use(
    await Ranks.start((i) => ({ cmd: withUcc("run", [program, String(i), String(WORLD_SIZE), folder]) })),
  );
  const bun = stack.use(
    await Ranks.start((i) => ({
      cmd: withUcc("bun", [rank]),
      env: { ...rankEnv(i, WORLD_SIZE, server.port), C10D_BENCH_BACKEND: "ucc" },
    })),
  );
  const turns = new Map<Party, Turn>([
    ["C++", (op, bytes) => cpp.run("wait", op, bytes)],
    ["wait", (op, bytes) => bun.run("wait", op, bytes)],
    ["await", (op, bytes) => bun.run("await", op, bytes)],
  ]);
  if (values.torch) {
    const torch = stack.use(await Contender.torch());
    turns.set("torch", async (op, bytes) => {
      return (await torch.run({ mode: "wait", op, ...repetitions(bytes), buffers: BUFFERS })).micros;
    });
  }
  for (const op of ops.filter((each) => values.op.split(",").includes(each))) {
    const rows: [number, Map<Party, Figures>][] = [];
    for (const bytes of values.sizes.split(",").map(Number)) {
      rows.push([bytes, await compare(turns, op, bytes, Number(values.rounds))]);
    }
    console.log(
      values.json ? JSON.stringify({ op, rows: rows.map(([b, by]) => [b, Object.fromEntries(by)]) }) : report(op, rows),
    );
  }
}
