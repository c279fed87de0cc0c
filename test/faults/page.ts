import { PageTable } from "../docs/page-table.ts";
import { type Cell, type Fault, type FaultBackend, type FaultOp, faults, isSilent, modes, ops } from "./cell.ts";
import { type CellResult, isNamed, kindOf } from "./run-cell.ts";

/** The table of each backend. */
export const faultsTables: Readonly<Record<FaultBackend, PageTable>> = {
  gloo: tableOnPage("gloo"),
  nccl: tableOnPage("nccl"),
};

function tableOnPage(backend: FaultBackend): PageTable {
  const page = new URL("../../docs/faults.md", import.meta.url);
  return new PageTable(page, `bun test/faults/table.ts ${backend} --write`);
}

const faultNames: Readonly<Record<Fault, string>> = {
  SIGKILL: "SIGKILL",
  SIGSTOP: "SIGSTOP",
  exit: "clean exit",
  leave: "end of the script",
  throw: "exception",
  cut: "network cut",
};

const opNames: Readonly<Record<FaultOp, string>> = {
  allReduce: "all-reduce",
  broadcast: "broadcast",
  allGather: "all-gather",
  allToAll: "all-to-all",
  sendRecv: "send/recv",
  barrier: "barrier",
};

/**
 * The table of the page: a row for each fault and op, over all tensor and world sizes. The errors are those that the
 * survivors of the fault saw in any op, since which of several they get varies.
 */
export function tableOf(results: readonly CellResult[]): string {
  const lines = [
    "| fault | op | `await`: error | after | names the culprit | `wait()`: error | after | names the culprit | afterwards |",
    "|---|---|---|---|---|---|---|---|---|",
  ];
  for (const fault of faults) {
    const ofFault = results.filter(({ cell }) => cell.fault === fault);
    for (const op of ops) {
      const those = ofFault.filter(({ cell }) => cell.op === op);
      if (those.length === 0) continue;
      const columns = modes.flatMap((mode) => {
        const inMode = ({ cell }: CellResult): boolean => cell.mode === mode;
        return [errorsIn(ofFault.filter(inMode)), whenIn(those.filter(inMode)), namedIn(those.filter(inMode))];
      });
      const fine = those.every(({ problems }) => problems.length === 0);
      const afterwards = fine ? "FAILED, new group ok" : those.flatMap(({ problems }) => problems).join("; ");
      lines.push(`| ${[faultNames[fault], opNames[op], ...columns, afterwards].join(" | ")} |`);
    }
  }
  return `${lines.join("\n")}\n`;
}

function errorsIn(results: readonly CellResult[]): string {
  const kinds = new Set(results.flatMap(({ survivors }) => survivors.map(({ error }) => kindOf(error))));
  return [...kinds]
    .sort()
    .reverse()
    .map((kind) => `\`${kind}\``)
    .join(", ");
}

/** How many of the survivors name the faulty rank and no other. */
function namedIn(results: readonly CellResult[]): string {
  const all = results.flatMap(({ cell, survivors }) => survivors.map((survivor) => isNamed(cell, survivor)));
  return `${all.filter(Boolean).length} of ${all.length}`;
}

/** When the last of the survivors got its error: after the fault, or after the time-out of the op. */
function whenIn(results: readonly CellResult[]): string {
  const after = results.map(({ cell, errorMs }) => errorMs - (isSilent(cell.fault) ? cell.timeoutMs : 0));
  const silent = results.some(({ cell }) => isSilent(cell.fault));
  return `${silent ? "time-out + " : ""}${Math.max(...after)} ms`;
}

/** The errors that the survivors of a fault may get, according to the page. */
export function errorsOnPage({ backend, fault, op, mode }: Pick<Cell, "backend" | "fault" | "op" | "mode">): string[] {
  const start = `| ${faultNames[fault]} | ${opNames[op]} |`;
  const lines = faultsTables[backend].read().split("\n");
  const row = lines.find((line) => line.startsWith(start));
  const column = row?.split("|")[mode === "await" ? 3 : 6] ?? "";
  return Array.from(column.matchAll(/`([^`]+)`/g), ([, kind = ""]) => kind);
}
