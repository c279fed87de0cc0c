import type { Operation } from "../../collectives/op-table.ts";
import type { DType } from "../../tensor/index.ts";
import type { Capabilities } from "./capabilities.ts";

/** The capabilities that several backends have in common. */
export function commonCapabilities(all: readonly Capabilities[]): Capabilities {
  const [first, ...others] = all;
  if (first !== undefined && others.every((each) => each === first)) return first;
  const every = (flag: "anySource" | "sequenceNumbers" | "abort" | "keepsTimeouts") =>
    all.every((each) => each[flag] === true);
  const missing: NonNullable<Capabilities["missing"]> = Object.assign({}, ...all.map((each) => each.missing));
  return {
    ...(Object.keys(missing).length > 0 && { missing }),
    ops: common(all.map(({ ops }) => ops)),
    reduceOps: common<DType, string>(all.map(({ reduceOps }) => reduceOps)) as Capabilities["reduceOps"],
    anySource: every("anySource"),
    sequenceNumbers: every("sequenceNumbers"),
    abort: every("abort"),
    keepsTimeouts: every("keepsTimeouts"),
    messagesInOrder: all.some(({ messagesInOrder }) => messagesInOrder === true),
  };
}

/** What all tables have in each row. A row that is left empty is dropped, unless it was empty before. */
function common<Row extends Operation | DType, Cell>(
  tables: readonly { readonly [row in Row]?: readonly Cell[] }[],
): { readonly [row in Row]?: readonly Cell[] } {
  const [first, ...others] = tables;
  const rows = Object.entries(first ?? {}) as [Row, readonly Cell[]][];
  return Object.fromEntries(
    rows.flatMap(([row, cells]) => {
      const lists = others.map((table) => table[row]);
      if (lists.includes(undefined)) return [];
      const kept = cells.filter((cell) => lists.every((list) => list?.includes(cell)));
      return kept.length === 0 && cells.length > 0 ? [] : [[row, kept]];
    }),
  ) as object;
}
