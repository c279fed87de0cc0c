import { groupText, opText, ranksOf, sitesText, sizesText } from "../output/op-text.ts";
import { printable } from "../output/printable.ts";
import type { TraceOp } from "../rank-trace.ts";
import type { Finding } from "./finding.ts";
import type { GroupTraces } from "./group-traces.ts";
import { type Difference, differences, dtypesOf, numel, type Side, sidesOf } from "./signature.ts";

/** Compares the calls of one collective. */
export function mismatch(
  { group, members }: GroupTraces,
  seq: number,
  calls: ReadonlyMap<number, TraceOp>,
): Finding | undefined {
  if (calls.size < 2) return undefined;
  const sides = sidesOf(calls);
  const [left, right] = sides;
  if (left === undefined) return undefined;
  if (right === undefined) return calls.size === group.ranks.length ? unbalanced(group, seq, calls) : undefined;
  const found = differences(left.op, right.op);
  const what = found.includes("op")
    ? `ranks made different calls as #${seq}`
    : `ranks called ${opText(left.op)} with different ${found.join(", ")}`;
  const shown = sides
    .slice(0, 3)
    .map((side) => `${ranksOf(side.ranks)} ${valueText(side, found)}${sitesText([side.op])}`);
  const more = sides.length > 3 ? ", others something else" : "";
  const skipped = skippedText({ group, members }, seq, left, right);
  return {
    kind: "mismatch",
    group,
    seq,
    ranks: sides.slice(1).flatMap(({ ranks }) => ranks),
    text: `${groupText(group)}: ${what}: ${shown.join(", ")}${more}.${skipped}${errorText(calls)}`,
    sides,
    differences: found,
  };
}

function valueText({ op }: Side, found: readonly Difference[]): string {
  const [first] = found;
  if (first === "input sizes") return sizesText(op.inputSizes);
  if (first === "output sizes") return sizesText(op.outputSizes);
  if (first === "dtypes") return printable(dtypesOf(op).join(", "));
  if (first === "reduce op") return printable(op.reduceOp ?? "");
  if (first === "root") return `root ${op.root}`;
  return printable(op.name);
}

/** A rank that left out a collective, or made one too many, makes the others' call one place earlier or later. */
function skippedText({ members }: GroupTraces, seq: number, left: Side, right: Side): string {
  const common = members.get(left.ranks[0] ?? -1)?.collectives;
  const other = members.get(right.ranks[0] ?? -1)?.collectives;
  const [nextOfCommon, nextOfOther] = [common?.get(seq + 1), other?.get(seq + 1)];
  const who = ranksOf(right.ranks);
  if (nextOfCommon !== undefined && differences(nextOfCommon, right.op).length === 0) {
    return ` It looks as if ${who} left out ${opText(left.op)}: the next call of the others is the same.`;
  }
  if (nextOfOther !== undefined && differences(left.op, nextOfOther).length === 0) {
    return ` It looks as if ${who} made one call too many, ${opText(right.op)}: the next one is that of the others.`;
  }
  return "";
}

function errorText(calls: ReadonlyMap<number, TraceOp>): string {
  const failed = [...calls].find(([, { error }]) => error !== undefined);
  return failed === undefined ? "" : ` Rank ${failed[0]}: ${printable(failed[1].error ?? "")}`;
}

/** What the ranks send in an all-to-all has to be as much as they receive. */
function unbalanced(
  group: GroupTraces["group"],
  seq: number,
  calls: ReadonlyMap<number, TraceOp>,
): Finding | undefined {
  const ops = [...calls.values()];
  const isComplete = ops.every(
    (op) => op.kind === "all_to_all" && op.inputSizes.length > 0 && op.outputSizes.length > 0,
  );
  if (!isComplete) return undefined;
  const sent = ops.reduce((sum, op) => sum + numel(op.inputSizes), 0);
  const received = ops.reduce((sum, op) => sum + numel(op.outputSizes), 0);
  if (sent === received) return undefined;
  const text = `${groupText(group)}: in all_to_all #${seq} the ranks send ${sent} elements and receive ${received}${sitesText(ops)}.`;
  return { kind: "mismatch", group, seq, ranks: [...calls.keys()], text };
}
