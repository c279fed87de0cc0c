/**
 * UCC with 2 ranks, float32, over shared memory: Bun with `wait()` and with `await`, compared with a C++ program that
 * calls the same libucc directly, and with `--torch` also with `torch.distributed` over Gloo. They take turns in short
 * rounds.
 *
 *     bun bench/ucc.ts [--op all-reduce,broadcast,all-to-all] [--rounds 8] [--sizes 4,1024,65536] [--torch] [--before
 *     DIR] [--json]
 *
 * `--before` names another checkout with its build, such as an earlier commit, to be measured too.
 */
import { parseArgs } from "node:util";
import { Contender, type OpKind } from "./harness/contender.ts";
import { Field, type Figures, type Way } from "./harness/field.ts";
import { showBytes, showMicros, table } from "./harness/samples.ts";

const SIZES = [4, 2 ** 10, 2 ** 16, 2 ** 20, 2 ** 24];
const ops = ["all-reduce", "broadcast", "all-to-all"] as const satisfies readonly OpKind[];

type Party = "C++" | "wait" | "await" | "before" | "before await" | "torch";

/** C++ comes first: it is the baseline. `before` is another checkout with its build. */
export function uccWays(before?: string): Readonly<Record<Party, Way>> {
  const bun = { processes: "bun", start: () => Contender.bun({ backend: "ucc" }) };
  const earlier = { processes: "before", start: () => Contender.bun({ backend: "ucc", tree: before }) };
  return {
    "C++": { processes: "cpp", mode: "wait", start: () => Contender.cpp("ucc") },
    wait: { ...bun, mode: "wait" },
    await: { ...bun, mode: "await" },
    before: { ...earlier, mode: "wait" },
    "before await": { ...earlier, mode: "await" },
    torch: { processes: "torch", mode: "wait", start: () => Contender.torch() },
  };
}

function report(op: OpKind, rows: readonly (readonly [number, Map<Party, Figures>])[]): string {
  const shown = [...(rows[0]?.[1].keys() ?? [])];
  const header = [`${op}, 2 ranks`, ...shown.flatMap((party, i) => (i === 0 ? [party] : [party, "ratio", "extra"]))];
  const lines = rows.map(([bytes, by]) => [
    showBytes(bytes),
    ...shown.flatMap((party, i) => {
      const each = by.get(party);
      if (each === undefined) return [];
      const time = `${showMicros(each.median)} (${showMicros(each.p90)})`;
      return i === 0 ? [time] : [time, (1 / each.gain).toFixed(2), showMicros(each.extra)];
    }),
  ]);
  return table([header, ...lines]);
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      op: { type: "string", default: ops.join(",") },
      rounds: { type: "string", default: "8" },
      sizes: { type: "string", default: SIZES.join(",") },
      torch: { type: "boolean", default: false },
      before: { type: "string" },
      json: { type: "boolean", default: false },
    },
  });
  const parties: Party[] = ["C++", "wait", "await"];
  if (values.before !== undefined) parties.push("before", "before await");
  if (values.torch) parties.push("torch");
  await using field = await Field.start(uccWays(values.before), parties);
  for (const op of ops.filter((each) => values.op.split(",").includes(each))) {
    const rows: [number, Map<Party, Figures>][] = [];
    for (const bytes of values.sizes.split(",").map(Number)) {
      rows.push([bytes, await field.compare(op, bytes, Number(values.rounds))]);
    }
    console.log(
      values.json ? JSON.stringify({ op, rows: rows.map(([b, by]) => [b, Object.fromEntries(by)]) }) : report(op, rows),
    );
  }
}
