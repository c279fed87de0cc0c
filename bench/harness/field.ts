import { type Contender, type Job, type OpKind, type Result, repetitions } from "./contender.ts";
import { median, quantile } from "./samples.ts";

/** How a party is run. */
export interface Way {
  /** Parties with the same value share their processes. */
  readonly processes: string;
  readonly mode: Job["mode"];
  /** The ops it supports; all if absent. */
  readonly ops?: readonly OpKind[];
  start(): Promise<Contender>;
}

export interface Figures {
  /** Microseconds, over all iterations of all rounds. */
  readonly median: number;
  readonly p90: number;
  /** Median over the rounds of the baseline's time divided by its own in the same round, by medians and by p90. */
  readonly gain: number;
  readonly gainP90: number;
  /** Median over the rounds of its extra time in microseconds over the baseline. */
  readonly extra: number;
}

/** Several buffers are used in turn, so that a large one is not in the cache when it is used again. */
const BUFFERS = 4;

/** The parties to compare, and their processes. */
export class Field<Party extends string> implements AsyncDisposable {
  static async start<Party extends string>(
    ways: Readonly<Record<Party, Way>>,
    chosen: readonly NoInfer<Party>[],
  ): Promise<Field<Party>> {
    await using stack = new AsyncDisposableStack();
    const started = new Map<string, Contender>();
    const contenders = new Map<Party, Contender>();
    for (const party of chosen) {
      const { processes, start } = ways[party];
      const contender = started.get(processes) ?? stack.use(await start());
      started.set(processes, contender);
      contenders.set(party, contender);
    }
    return new Field(ways, contenders, stack.move());
  }

  readonly #ways: Readonly<Record<Party, Way>>;
  readonly #contenders: ReadonlyMap<Party, Contender>;
  readonly #stack: AsyncDisposableStack;

  private constructor(
    ways: Readonly<Record<Party, Way>>,
    contenders: ReadonlyMap<Party, Contender>,
    stack: AsyncDisposableStack,
  ) {
    this.#ways = ways;
    this.#contenders = contenders;
    this.#stack = stack;
  }

  /** Runs the same job on all parties, or on these, in turns; the first of them is the baseline. */
  async compare(op: OpKind, bytes: number, rounds: number, who?: readonly Party[]): Promise<Map<Party, Figures>> {
    const turns = (who ?? [...this.#contenders.keys()]).filter((party) => this.#ways[party].ops?.includes(op) ?? true);
    const taken = new Map<Party, Result[]>(turns.map((party) => [party, []]));
    for (let round = 0; round < rounds; round++) {
      // The order rotates, so that no party is always first.
      const first = round % turns.length;
      for (const party of [...turns.slice(first), ...turns.slice(0, first)]) {
        const job: Job = { mode: this.#ways[party].mode, op, ...repetitions(bytes), buffers: BUFFERS };
        const result = await this.#contenders.get(party)?.run(job);
        if (result === undefined) throw new Error(`${party} was not started`);
        taken.get(party)?.push(result);
      }
    }
    const [yardstick = []] = taken.values();
    return new Map([...taken].map(([party, results]) => [party, figures(results, yardstick)]));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync();
  }
}

function figures(results: readonly Result[], yardstick: readonly Result[]): Figures {
  const all = results.flatMap(({ micros }) => micros);
  const gainAt = (q: number): number =>
    median(results.map(({ micros }, i) => quantile(yardstick[i]?.micros ?? [], q) / quantile(micros, q)));
  const extra = median(results.map(({ micros }, i) => median(micros) - median(yardstick[i]?.micros ?? [])));
  return { median: median(all), p90: quantile(all, 0.9), gain: gainAt(0.5), gainP90: gainAt(0.9), extra };
}
