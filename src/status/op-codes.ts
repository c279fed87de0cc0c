import { type OpName, OpType, opNames, opTable } from "../collectives/index.ts";

/** Ops whose name is not that of their type. Numbers of ops are above those of types; new ones go to the end. */
const others = [
  "monitoredBarrier",
  "allGatherObject",
  "gatherObject",
  "broadcastObject",
  "scatterObject",
  "sendObject",
  "recvObject",
  "gatherSingle",
] as const;

const FIRST_OTHER = 1_000;
const codes: ReadonlyMap<string, number> = new Map(others.map((name, i) => [name, FIRST_OTHER + i]));

/** Number of an op in a status record, by the name under which users call it. */
export function opCode(name: string, opType: OpType): number {
  return codes.get(name) ?? opType;
}

/** The same for each row of the op table. */
export const callCodes = Object.fromEntries(
  Object.entries(opTable).map(([op, { api, opType }]) => [op, opCode(api, opType)]),
) as Readonly<Record<OpName, number>>;

/** Name of the op with this number; `op` for one of another version. */
export function opOfCode(code: number): string {
  return others[code - FIRST_OTHER] ?? opNames[code as OpType] ?? opNames[OpType.UNKNOWN];
}
