import { type OpName, opTable } from "../../collectives/index.ts";
import { InvalidArgumentError } from "../../errors/index.ts";

type Names = Readonly<Record<string, true>>;

/** Names of the options of each op, by its row in the op table; `group` is for the functions of the module. */
const names = Object.fromEntries(
  (Object.keys(opTable) as OpName[]).map((op) => {
    const { kind, root, reduces, splits, inputs, outputs } = opTable[op];
    const list = ["timeout", "group", "stream"];
    if (reduces) list.push("op");
    if (root === "src" || op === "recv") list.push("src", "groupSrc");
    if (root === "dst" || op === "send") list.push("dst", "groupDst");
    if (kind === "message") list.push("tag");
    if (inputs === "perRankAtRoot") list.push("inputs");
    if (outputs === "perRankAtRoot") list.push("outputs");
    if (splits) list.push("inputSplits", "outputSplits");
    if (op === "barrier") list.push("deviceIds");
    if (op === "monitoredBarrier") list.push("waitAllRanks");
    return [op, Object.assign(Object.create(null), Object.fromEntries(list.map((name) => [name, true])))];
  }),
) as { readonly [op in OpName]: Names };

const forObjects = ["timeout", "group", "maxBytes"];
const bySource = ["src", "groupSrc"];
const byDestination = ["dst", "groupDst"];

/** Names of the options of ops that have no row in the op table. */
const namesBeside = {
  allReduceSparse: ["timeout", "group", "op"],
  allGatherObject: forObjects,
  gatherObject: [...forObjects, ...byDestination],
  broadcastObject: [...forObjects, ...bySource],
  scatterObject: [...forObjects, ...bySource],
  sendObject: [...forObjects, ...byDestination, "tag"],
  recvObject: [...forObjects, ...bySource, "tag"],
} satisfies Readonly<Record<string, readonly string[]>>;

/** An op of several steps. */
export type SteppedOpName = keyof typeof namesBeside;

/** Refuses an option with an unknown name, which would otherwise be ignored. */
export function requireCallOptionNames(op: OpName, options: object): void {
  const known = names[op];
  for (const name in options) if (!(name in known)) refuseIfGiven(opTable[op].api, Object.keys(known), name, options);
}

/** {@link requireCallOptionNames} for an op of several steps. */
export function requireStepOptionNames(op: SteppedOpName, api: string, options: object): void {
  const known: readonly string[] = namesBeside[op];
  for (const name in options) if (!known.includes(name)) refuseIfGiven(api, known, name, options);
}

/** An unknown option whose value is `undefined` is accepted. */
function refuseIfGiven(api: string, known: readonly string[], name: string, options: object): void {
  if ((options as Readonly<Record<string, unknown>>)[name] === undefined) return;
  throw new InvalidArgumentError(`${api}: unknown option ${name} (known are ${known.join(", ")})`, {
    op: api,
    argument: name,
  });
}
