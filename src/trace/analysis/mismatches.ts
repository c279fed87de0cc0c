import { printable } from "../../errors/index.ts";
import { isRecorded, type TraceCall } from "../rank-trace.ts";
import { errorText, groupText, opText, ranksOf, sitesText, sizesText } from "../text/op-text.ts";
import type { Finding } from "./finding.ts";
import type { GroupTraces } from "./group-traces.ts";
import { type Difference, differences, dtypesOf, numel, type Side, sidesOf } from "./signature.ts";
import { skippedText } from "./skipped-call.ts";

/** Compares the calls of one collective. */
export function mismatch(
  { group, members }: GroupTraces,
  seq: number,
  calls: ReadonlyMap<number, TraceCall>,
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
  const isTie = left.ranks.length === right.ranks.length;
  const skipped = skippedText(members, seq, left, right, isTie);
  const absent = [...calls].flatMap(([rank, op]) => (isRecorded(op) ? [] : [rank]));
  const source =
    absent.length === 0 ? "" : ` What ${ranksOf(absent)} called is in the errors of others, not in a dump.`;
  return {
    kind: "mismatch",
    group,
    seq,
    ranks: (isTie ? sides : sides.slice(1)).flatMap(({ ranks }) => ranks),
    text: `${groupText(group)}: ${what}: ${shown.join(", ")}${more}.${skipped}${source}${firstError(calls)}`,
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

function firstError(calls: ReadonlyMap<number, TraceCall>): string {
  for (const [rank, op] of calls) {
    if (isRecorded(op) && op.error !== undefined) return ` Rank ${rank}: ${errorText(op.error)}`;
  }
  return "";
}

/** What the ranks send in an all-to-all has to be as much as they receive. */
function unbalanced(
  group: GroupTraces["group"],
  seq: number,
  calls: ReadonlyMap<number, TraceCall>,
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
