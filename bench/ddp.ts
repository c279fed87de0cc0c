/**
 * DistributedDataParallel of 2 ranks over Gloo: how much communication computing hides, and the cost compared with a
 * loop by hand and with PyTorch's DDP. The programs to compare take turns, in the same processes where both are Bun's.
 *
 *     bun bench/ddp.ts [--rounds 9] [--layers 8] [--layer 1048576] [--compute 1,4] [--sizes 4096,262144,8388608]
 *     [--json]
 *
 * `hidden` is the part of an exchange without computing by which DDP takes less than computing and that exchange one after
 * the other; `hidden by timer` is the part of the time in Gloo that is before the last gradient, as `IterationTimes` has it.
 * A core that computes is shared with the threads of Gloo, which need one for each rank; `device` waits instead, as for an
 * accelerator.
 *
 * Without `./bootstrap torch`, PyTorch is left out and a line says so.
 */
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { TCPStoreServer } from "../src/store/index.ts";
import { repetitions, torchPython } from "./harness/contender.ts";
import { LineProcess } from "./harness/line-process.ts";
import { rankEnv } from "./harness/rank-env.ts";
import { median, showBytes, showMicros, table } from "./harness/samples.ts";
import { OWN_TREE, shimsOf } from "./harness/tree.ts";

/** `compute` only computes; `flat` is one all-reduce after the backward pass; `ddp` computes gradients in its buckets, `given` copies them. */
export type DdpWay = "compute" | "flat" | "ddp" | "given";

/** What the ranks measure. */
export interface DdpJob {
  readonly way: DdpWay;
  /** Parameters of equal length. */
  readonly layers: number;
  /** Of all gradients together. */
  readonly bytes: number;
  /** Computing before each gradient. */
  readonly computeMs: number;
  /** Whether a core of this machine computes, or it waits as for an accelerator. Default is `core`. */
  readonly on?: "core" | "device";
  readonly bucketCapMb?: number;
  readonly warmUp: number;
  readonly iterations: number;
}

interface Measured {
  readonly micros: number;
  /** Which part of the time in Gloo is before the last gradient. */
  readonly hidden: number;
}

const WORLD_SIZE = 2;

/** Two connected ranks that wait for jobs. */
class Ranks implements AsyncDisposable {
  static async start(cmd: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ranks> {
    await using stack = new AsyncDisposableStack();
    const server = await TCPStoreServer.listen({ host: "127.0.0.1", port: 0 });
    stack.defer(async () => void (await server.close()));
    const ranks = Array.from({ length: WORLD_SIZE }, (_, rank) =>
      stack.use(new LineProcess({ cmd, env: { ...rankEnv(rank, WORLD_SIZE, server.port), ...env } })),
    );
    await Promise.all(ranks.map((rank) => rank.answer()));
    return new Ranks(ranks, stack.move());
  }

  readonly #ranks: readonly LineProcess[];
  readonly #stack: AsyncDisposableStack;

  private constructor(ranks: readonly LineProcess[], stack: AsyncDisposableStack) {
    this.#ranks = ranks;
    this.#stack = stack;
  }

  /** The median of the slower rank. */
  async run(job: DdpJob): Promise<Measured> {
    const answers = await Promise.all(this.#ranks.map((rank) => rank.ask(JSON.stringify(job))));
    const each = (answers as { micros: number[]; hidden: number[] }[]).map(({ micros, hidden }) => ({
      micros: median(micros),
      hidden: median(hidden),
    }));
    return each.reduce((slower, other) => (other.micros > slower.micros ? other : slower));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync();
  }
}

/** Runs jobs in turns; the results of each, by round. */
async function inTurns<K extends string>(
  rounds: number,
  parties: Readonly<Record<K, (() => Promise<Measured>) | undefined>>,
): Promise<Record<K, Measured[]>> {
  const names = Object.keys(parties) as K[];
  const results = Object.fromEntries(names.map((name) => [name, [] as Measured[]])) as Record<K, Measured[]>;
  for (let round = 0; round < rounds; round++) {
    for (const name of names) {
      const measured = await parties[name]?.();
      if (measured !== undefined) results[name].push(measured);
    }
  }
  return results;
}

const medianOf = (results: readonly Measured[]) => median(results.map(({ micros }) => micros));

/** Median over the rounds of the ratio of two parties. */
function ratio(of: readonly Measured[], to: readonly Measured[]): string {
  return median(of.map(({ micros }, i) => micros / (to[i]?.micros ?? Number.NaN))).toFixed(2);
}

async function measureOverlap(
  bun: Ranks,
  rounds: number,
  layers: number,
  layerBytes: number,
  of: Pick<DdpJob, "on" | "computeMs">,
) {
  const job = {
    layers,
    bytes: layers * layerBytes,
    bucketCapMb: layerBytes / 2 ** 20,
    warmUp: 4,
    iterations: 10,
    ...of,
  };
  const results = await inTurns(rounds, {
    compute: () => bun.run({ ...job, way: "compute" }),
    exchange: () => bun.run({ ...job, way: "ddp", computeMs: 0 }),
    both: () => bun.run({ ...job, way: "ddp" }),
    after: () => bun.run({ ...job, way: "flat" }),
  });
  const hidden = results.both.map(({ micros }, i) => {
    const [compute, exchange] = [results.compute[i]?.micros ?? Number.NaN, results.exchange[i]?.micros ?? Number.NaN];
    return (compute + exchange - micros) / exchange;
  });
  return {
    ...of,
    compute: medianOf(results.compute),
    exchange: medianOf(results.exchange),
    both: medianOf(results.both),
    after: medianOf(results.after),
    hidden: median(hidden),
    hiddenByTimer: median(results.both.map((each) => each.hidden)),
    bothToAfter: ratio(results.both, results.after),
  };
}

async function measureCost(bun: Ranks, torch: Ranks | undefined, rounds: number, layers: number, bytes: number) {
  const job = { layers, computeMs: 0, ...repetitions(bytes) };
  const results = await inTurns(rounds, {
    flat: () => bun.run({ ...job, way: "flat" }),
    ddp: () => bun.run({ ...job, way: "ddp" }),
    given: () => bun.run({ ...job, way: "given" }),
    torch: torch && (() => torch.run({ ...job, way: "given" })),
  });
  return {
    bytes,
    flat: medianOf(results.flat),
    ddp: medianOf(results.ddp),
    given: medianOf(results.given),
    ddpToFlat: ratio(results.ddp, results.flat),
    ...(torch && {
      torch: medianOf(results.torch),
      ddpToTorch: ratio(results.ddp, results.torch),
      givenToTorch: ratio(results.given, results.torch),
    }),
  };
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      rounds: { type: "string", default: "9" },
      layers: { type: "string", default: "8" },
      layer: { type: "string", default: "1048576" },
      compute: { type: "string", default: "1,4" },
      sizes: { type: "string", default: "4096,262144,8388608" },
      json: { type: "boolean", default: false },
    },
  });
  const [rounds, layers, layerBytes] = [Number(values.rounds), Number(values.layers), Number(values.layer)];
  const folder = fileURLToPath(new URL("ranks", import.meta.url));
  const python = torchPython();
  await using bun = await Ranks.start([process.execPath, `${folder}/ddp-rank.ts`], {
    C10D_NATIVE_DIR: shimsOf(OWN_TREE),
  });
  await using torch = python === undefined ? undefined : await Ranks.start([python, `${folder}/ddp_rank.py`]);

  const overlap = [];
  for (const on of ["core", "device"] as const) {
    for (const computeMs of values.compute.split(",").map(Number)) {
      overlap.push(await measureOverlap(bun, rounds, layers, layerBytes, { on, computeMs }));
    }
  }
  const cost = [];
  for (const bytes of values.sizes.split(",").map(Number)) {
    cost.push(await measureCost(bun, torch, rounds, layers, bytes));
  }
  if (values.json) {
    console.log(JSON.stringify({ overlap, cost }));
  } else {
    const percent = (fraction: number) => `${(100 * fraction).toFixed(0)} %`;
    console.log(`${layers} layers with gradients of ${showBytes(layerBytes)}, 2 ranks, medians of ${rounds} rounds`);
    console.log(
      table([
        [
          "computing of each layer",
          "compute",
          "exchange",
          "DDP",
          "by hand, after it",
          "DDP/by hand",
          "hidden",
          "hidden by timer",
        ],
        ...overlap.map((line) => [
          `${line.computeMs} ms on a ${line.on}`,
          showMicros(line.compute),
          showMicros(line.exchange),
          showMicros(line.both),
          showMicros(line.after),
          line.bothToAfter,
          percent(line.hidden),
          percent(line.hiddenByTimer),
        ]),
      ]),
    );
    console.log(`\nan iteration with ${layers} given gradients and no computing`);
    const shown = (micros: number | undefined) => (micros === undefined ? "absent" : showMicros(micros));
    console.log(
      table([
        ["gradients", "by hand", "DDP", "DDP, copied", "torch DDP", "DDP/by hand", "DDP/torch", "copied/torch"],
        ...cost.map((line) => [
          showBytes(line.bytes),
          showMicros(line.flat),
          showMicros(line.ddp),
          showMicros(line.given),
          shown(line.torch),
          line.ddpToFlat,
          line.ddpToTorch ?? "",
          line.givenToTorch ?? "",
        ]),
      ]),
    );
    if (torch === undefined) console.log("PyTorch is absent: run ./bootstrap torch to compare with its DDP");
  }
}
