/**
 * Gloo by 2 ranks, float32: Bun with `wait()` and with `await` against `torch.distributed`, which is the yardstick, and
 * against C++: what the shim calls, and Gloo's all-reduce as PyTorch calls it. All take turns in short rounds.
 *
 *     bun bench/gloo.ts [--op all-reduce] [--rounds 8] [--sizes 4,1024,65536] [--only torch,wait] [--before DIR] [--json]
 *
 * `--before` names a folder with the shims of another build, which then takes part too.
 */
import { parseArgs } from "node:util";
import { Contender, type Job, type OpKind, opKinds, type Result, repetitions } from "./harness/contender.ts";
import { median, quantile, showBytes, showMicros, table } from "./harness/samples.ts";

/** Who takes part, by the name of its column. */
export const parties = ["torch", "torch 1", "wait", "await", "before", "before await", "C++", "stock"] as const;

export type Party = (typeof parties)[number];

export interface Figures {
  /** Microseconds, of all iterations of all rounds. */
  readonly median: number;
  readonly p90: number;
  /** Median over the rounds of how many times as long the yardstick took in the same round, by medians and by p90. */
  readonly gain: number;
  readonly gainP90: number;
  /** Median over the rounds of how many microseconds more than the yardstick it took. */
  readonly extra: number;
}

const SIZES = [4, 64, 2 ** 10, 2 ** 12, 2 ** 16, 2 ** 20, 2 ** 24, 2 ** 26];
/** Buffers take turns so that a large one is not in the cache when its turn comes. */
const BUFFERS = 4;

const modes: Readonly<Record<Party, Job["mode"]>> = {
  torch: "wait",
  "torch 1": "wait",
  wait: "wait",
  await: "await",
  before: "wait",
  "before await": "await",
  "C++": "wait",
  stock: "stock",
};

/** The processes behind the parties; `wait` and `await` share two, and so do the two of C++. */
export class Field implements AsyncDisposable {
  static async start(chosen: readonly Party[], before?: string): Promise<Field> {
    await using stack = new AsyncDisposableStack();
    const started = new Map<string, Contender>();
    const contenders = new Map<Party, Contender>();
    const ways: Readonly<Record<Party, readonly [string, () => Promise<Contender>]>> = {
      torch: ["torch", () => Contender.torch()],
      "torch 1": ["torch 1", () => Contender.torch(1)],
      wait: ["bun", () => Contender.bun()],
      await: ["bun", () => Contender.bun()],
      before: ["before", () => Contender.bun(before)],
      "before await": ["before", () => Contender.bun(before)],
      "C++": ["cpp", () => Contender.cpp()],
      stock: ["cpp", () => Contender.cpp()],
    };
    for (const party of chosen) {
      const [key, start] = ways[party];
      const contender = started.get(key) ?? stack.use(await start());
      started.set(key, contender);
      contenders.set(party, contender);
    }
    return new Field(contenders, stack.move());
  }

  readonly #contenders: ReadonlyMap<Party, Contender>;
  readonly #stack: AsyncDisposableStack;

  private constructor(contenders: ReadonlyMap<Party, Contender>, stack: AsyncDisposableStack) {
    this.#contenders = contenders;
    this.#stack = stack;
  }

  /** Lets all, or these, do the same in turns; the first of them is the yardstick. */
  async compare(op: OpKind, bytes: number, rounds: number, who?: readonly Party[]): Promise<Map<Party, Figures>> {
    const turns = [...this.#contenders].filter(([party]) => takesPart(party, op) && (who?.includes(party) ?? true));
    const taken = new Map<Party, Result[]>(turns.map(([party]) => [party, []]));
    for (let round = 0; round < rounds; round++) {
      // Nobody is always first.
      const first = round % turns.length;
      for (const [party, contender] of [...turns.slice(first), ...turns.slice(0, first)]) {
        taken
          .get(party)
          ?.push(await contender.run({ mode: modes[party], op, ...repetitions(bytes), buffers: BUFFERS }));
      }
    }
    const [yardstick = []] = taken.values();
    return new Map([...taken].map(([party, results]) => [party, figures(results, yardstick)]));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync();
  }
}

/** The program in C++ has no messages, and Gloo's own call for all-reduce only. */
function takesPart(party: Party, op: OpKind): boolean {
  return party === "stock" ? op === "all-reduce" : party !== "C++" || op !== "ping-pong";
}

function figures(results: readonly Result[], yardstick: readonly Result[]): Figures {
  const all = results.flatMap(({ micros }) => micros);
  const gainAt = (q: number): number =>
    median(results.map(({ micros }, i) => quantile(yardstick[i]?.micros ?? [], q) / quantile(micros, q)));
  const extra = median(results.map(({ micros }, i) => median(micros) - median(yardstick[i]?.micros ?? [])));
  return { median: median(all), p90: quantile(all, 0.9), gain: gainAt(0.5), gainP90: gainAt(0.9), extra };
}

function report(op: OpKind, rows: readonly (readonly [number, Map<Party, Figures>])[]): string {
  const shown = [...(rows[0]?.[1].keys() ?? [])];
  const header = [`${op}, 2 ranks`, ...shown.flatMap((party, i) => (i === 0 ? [party] : [party, "gain", "(p90)"]))];
  const lines = rows.map(([bytes, by]) => [
    op === "barrier" ? "" : showBytes(bytes),
    ...shown.flatMap((party, i) => {
      const each = by.get(party);
      if (each === undefined) return [];
      const time = `${showMicros(each.median)} (${showMicros(each.p90)})`;
      return i === 0 ? [time] : [time, each.gain.toFixed(2), `(${each.gainP90.toFixed(2)})`];
    }),
  ]);
  return table([header, ...lines]);
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      op: { type: "string", default: "all-reduce" },
      rounds: { type: "string", default: "8" },
      sizes: { type: "string", default: SIZES.join(",") },
      only: { type: "string", default: parties.join(",") },
      before: { type: "string" },
      json: { type: "boolean", default: false },
    },
  });
  const named = values.only.split(",");
  const chosen = parties.filter((party) =>
    party.startsWith("before") ? values.before !== undefined : named.includes(party),
  );
  await using field = await Field.start(chosen, values.before);
  for (const op of opKinds.filter((kind) => values.op.split(",").includes(kind))) {
    const rows: [number, Map<Party, Figures>][] = [];
    for (const bytes of op === "barrier" ? [4] : values.sizes.split(",").map(Number)) {
      rows.push([bytes, await field.compare(op, bytes, Number(values.rounds))]);
    }
    console.log(
      values.json ? JSON.stringify({ op, rows: rows.map(([b, by]) => [b, Object.fromEntries(by)]) }) : report(op, rows),
    );
  }
}
