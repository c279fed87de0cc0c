import { printable } from "../../errors/index.ts";
import type { Difference, Side } from "../analysis/signature.ts";
import { dtypesOf } from "../analysis/signature.ts";
import { callSiteOf, isRecorded, type TraceCall } from "../rank-trace.ts";
import { ranksOf, sizesText } from "../text/op-text.ts";
import { paragraph } from "../text/paragraph.ts";

const LABEL = 14;
const COLUMN = 31;

/** Two calls side by side, in at most 80 columns; a `*` marks the rows in which they differ. */
export function twoColumns(left: Side, right: Side, differences: readonly Difference[]): string {
  const different = new Set<string>(differences);
  const rows: readonly (readonly [label: string, left: string, right: string])[] = [
    ["", ranksOf(left.ranks), ranksOf(right.ranks)],
    ["op", printable(left.op.name), printable(right.op.name)],
    ["method", left.op.api ?? "", right.op.api ?? ""],
    ["input sizes", sizesOf(left.op, "inputSizes"), sizesOf(right.op, "inputSizes")],
    ["output sizes", sizesOf(left.op, "outputSizes"), sizesOf(right.op, "outputSizes")],
    ["dtypes", dtypesOf(left.op).join(", "), dtypesOf(right.op).join(", ")],
    ["reduce op", left.op.reduceOp ?? "", right.op.reduceOp ?? ""],
    ["root", rootText(left.op), rootText(right.op)],
    ["state", stateText(left.op), stateText(right.op)],
    ["called at", siteText(left.op), siteText(right.op)],
  ];
  const shown = rows.filter(([, first, second]) => first !== "" || second !== "");
  return shown
    .map(([label, first, second]) => row(different.has(label) ? `* ${label}` : `  ${label}`, first, second))
    .join("\n");
}

function row(label: string, left: string, right: string): string {
  const [first, second] = [left, right].map((text) => paragraph(printable(text), COLUMN).split("\n"));
  const height = Math.max(first?.length ?? 0, second?.length ?? 0);
  return Array.from({ length: height }, (_, i) => {
    const start = (i === 0 ? label : "").padEnd(LABEL + 2);
    return `${start}${(first?.[i] ?? "").padEnd(COLUMN + 1)}${second?.[i] ?? ""}`.trimEnd();
  }).join("\n");
}

/** Errors do not say all sizes. */
function sizesOf(op: TraceCall, side: "inputSizes" | "outputSizes"): string {
  return op[side].length === 0 && !isRecorded(op) ? "" : sizesText(op[side]);
}

function rootText({ root }: TraceCall): string {
  return root === undefined ? "" : String(root);
}

function stateText(op: TraceCall): string {
  return isRecorded(op) ? op.state : "unknown: no dump";
}

/** The file name and line, never cut, and as much of the folders before them as fits into a line. */
function siteText(op: TraceCall): string {
  const site = callSiteOf(op);
  if (site === undefined) return "";
  const line = `:${site.line}`;
  const path = printable(site.file);
  if (path.length + line.length <= COLUMN) return `${path}${line}`;
  const [name = "", ...folders] = path.split(/[/\\]/).reverse();
  let end = name;
  for (const folder of folders) {
    const longer = `${folder}/${end}`;
    if (`…/${longer}${line}`.length > COLUMN) break;
    end = longer;
  }
  if (`…/${end}${line}`.length <= COLUMN) return `…/${end}${line}`;
  // The name takes several lines. The number is not broken.
  const isSplit = (name.length % COLUMN) + line.length > COLUMN || name.length % COLUMN === 0;
  return `${name}${isSplit && name.length > COLUMN - line.length ? " " : ""}${line}`;
}
