/**
 * Gloo with 2 ranks, float32: Bun with `wait()` and with `await`, compared with `torch.distributed` as the baseline and
 * with C++: the shim's own calls, and Gloo's all-reduce as PyTorch calls it. All take turns in short rounds.
 *
 *     bun bench/gloo.ts [--op all-reduce] [--rounds 8] [--sizes 4,1024,65536] [--only torch,wait] [--before DIR]
 *     [--json]
 *
 * `--before` names another checkout with its build, such as an earlier commit, to be measured too.
 */
import { parseArgs } from "node:util";
import { Contender, type OpKind, opKinds } from "./harness/contender.ts";
import { Field, type Figures, type Way } from "./harness/field.ts";
import { showBytes, showMicros, table } from "./harness/samples.ts";

/** What can be measured, by column name. */
export const parties = ["torch", "torch 1", "wait", "await", "before", "before await", "C++", "stock"] as const;

export type Party = (typeof parties)[number];

const SIZES = [4, 64, 2 ** 10, 2 ** 12, 2 ** 16, 2 ** 20, 2 ** 24, 2 ** 26];

/** `before` is another checkout with its build. */
export function glooWays(before?: string): Readonly<Record<Party, Way>> {
  const bun = { processes: "bun", start: () => Contender.bun() };
  const earlier = { processes: "before", start: () => Contender.bun({ tree: before }) };
  const cpp = { processes: "cpp", start: () => Contender.cpp("gloo") };
  return {
    torch: { processes: "torch", mode: "wait", start: () => Contender.torch() },
    "torch 1": { processes: "torch 1", mode: "wait", start: () => Contender.torch(1) },
    wait: { ...bun, mode: "wait" },
    await: { ...bun, mode: "await" },
    before: { ...earlier, mode: "wait" },
    "before await": { ...earlier, mode: "await" },
    // It has no messages, and Gloo's own call only for all-reduce.
    "C++": { ...cpp, mode: "wait", ops: opKinds.filter((kind) => kind !== "ping-pong") },
    stock: { ...cpp, mode: "stock", ops: ["all-reduce"] },
  };
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
  await using field = await Field.start(glooWays(values.before), chosen);
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
