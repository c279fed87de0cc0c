import { currentContext } from "../../distributed/dist-context.ts";
import { newGroup } from "../../distributed/index.ts";
import { DistError, messageOf } from "../../errors/index.ts";
import type { ProcessGroup } from "../../process-group/index.ts";
import type { Capabilities } from "../../registry/index.ts";
import { PrefixStore } from "../../store/index.ts";
import { suiteCases } from "./cases/cases.ts";
import type { OpenMemory } from "./device-memory.ts";
import { troubleOfEnding } from "./ends-in-time.ts";
import { descriptionOf, entriesOf, type SuiteEntry, settings } from "./settings.ts";
import type { SuiteCase } from "./suite-case.ts";
import { SuiteRank, type Sweep } from "./suite-rank.ts";
import { DevicePlace, hostPlace, type TensorPlace } from "./tensor-place.ts";

/** What all ranks are to run. Crosses the process boundary. */
export interface SuiteOrder {
  /** Names of the cases to run, each with its setting, in order. */
  readonly cases: readonly string[];
  readonly sweep: Sweep;
  readonly canBlock: boolean;
  /** Options for the backend. */
  readonly options: Readonly<Record<string, unknown>>;
}

/** What a rank reports of a case: that it begins, then how it went; once more if its group fails to close. */
export type CaseReport =
  | { readonly name: string; readonly begins: true }
  | { readonly name: string; readonly begins: false; readonly error: string | undefined; readonly checks: number };

/** Default limit of an op; limit of a case in a smoke sweep; limit of the store barriers before and after it. */
const OP_LIMIT_MS = 5_000;
const CASE_LIMIT_MS = 15_000;
const MEETING_LIMIT_MS = 30_000;
/** Limit of closing a group that is no longer used. */
const CLOSE_LIMIT_MS = 5_000;

/** What a rank runs cases with. */
export interface RankOfCases {
  readonly capabilities: Capabilities;
  /** Memory of the device that the default group is bound to; undefined for host memory. */
  readonly memory: OpenMemory | undefined;
  report(report: CaseReport): void;
}

/** Runs cases as one rank of the default group, each on a new group, so that a failure of one affects no other. */
export async function runCases(order: SuiteOrder, rank: RankOfCases): Promise<void> {
  const known = new Map(settings.flatMap((each) => entriesOf(each, suiteCases)).map((entry) => [entry.name, entry]));
  const entries = order.cases.map((name, index) => {
    const entry = known.get(name);
    if (entry === undefined) throw new Error(`no case is called "${name}"`);
    return { entry, run: (made: Promise<void>[]) => runCase(entry, index, order, rank, made) };
  });
  for (const { run } of entries.filter(({ entry }) => !entry.case.idle)) await run([]);
  const idle = entries.filter(({ entry }) => entry.case.idle);
  for (const concurrent of Map.groupBy(idle, ({ entry }) => entry.setting).values()) {
    // Groups are made in the order of the calls, which is the same on all ranks. No case begins before all are made:
    // while MPI makes one, nothing else makes progress.
    const made: Promise<void>[] = [];
    await Promise.all(concurrent.map(({ run }) => run(made)));
  }
}

/** @param made Settle when the groups of the concurrent cases are made; this case adds its own. */
async function runCase(
  { name, case: each, setting }: SuiteEntry,
  index: number,
  { sweep, canBlock, options }: SuiteOrder,
  { capabilities, memory, report }: RankOfCases,
  made: Promise<void>[],
): Promise<void> {
  const { store, group: world } = currentContext().require();
  const members = setting.members?.(world.size) ?? world.globalRanks;
  report({ name, begins: true });
  const ownStore = new PrefixStore(`suite/${index}`, store);
  const place = memory === undefined ? hostPlace : new DevicePlace(memory);
  let group: ProcessGroup | null = null;
  let rank: SuiteRank | undefined;
  let error: string | undefined;
  try {
    const description = descriptionOf(setting);
    const making = newGroup(members, { timeout: OP_LIMIT_MS, options, description });
    made.push(
      making.then(
        () => {},
        () => {},
      ),
    );
    group = await making;
    await Promise.all(made);
    const belongs = members.includes(world.rank);
    if (belongs !== (group !== null))
      throw new Error(`newGroup() returned ${group} to rank ${world.rank} of [${members}]`);
    // A rank that ends the group at once must not do so while others are still making it.
    await ownStore.barrier("begin", world.size, { timeout: MEETING_LIMIT_MS });
    if (group !== null) {
      const claimed = setting.claims?.(capabilities) ?? capabilities;
      const blocks = canBlock && setting.waitCannotBlock === undefined;
      const extent = setting.isWhole ? sweep : { ...sweep, full: false };
      const terms = { group, capabilities: claimed, sweep: extent, canBlock: blocks, store: ownStore };
      rank = new SuiteRank({ ...terms, place, device: memory?.device });
      await withinLimit(each, rank, sweep.full);
    }
  } catch (thrown) {
    error = failureText(thrown);
    // So that the others do not wait for this rank.
    group?.abort(`the case failed on rank ${world.rank}: ${error}`);
  }
  report({ name, begins: false, error, checks: rank?.checks ?? 0 });
  await ownStore.barrier("end", world.size, { timeout: MEETING_LIMIT_MS });
  const closing = "close() of the case's group";
  let trouble = group && (await troubleOfEnding(closing, CLOSE_LIMIT_MS, () => group.close()));
  // A group that could not be closed may still write to the memory.
  trouble ??= troubleOfRelease(place);
  if (trouble !== undefined) report({ name, begins: false, error: error ?? trouble, checks: rank?.checks ?? 0 });
}

/** Number of stack lines that are reported for a bug. */
const STACK_LINES = 5;

/** What went wrong; with its place if it is a bug in the backend, such as a TypeError. */
function failureText(thrown: unknown): string {
  if (!(thrown instanceof Error)) return String(thrown);
  const bug = [thrown, thrown.cause].find((each) => each instanceof TypeError || each instanceof RangeError);
  if (!(bug instanceof Error) || bug instanceof DistError) return thrown.message;
  const stack = (bug.stack ?? String(bug)).split("\n").slice(0, STACK_LINES).join("\n");
  return bug === thrown ? stack : `${thrown.message}\n${stack}`;
}

/** Why the memory of the case's tensors could not be freed. */
function troubleOfRelease(place: TensorPlace): string | undefined {
  try {
    place.release();
    return undefined;
  } catch (error) {
    return `the memory of the case's tensors could not be freed: ${messageOf(error)}`;
  }
}

async function withinLimit(each: SuiteCase, rank: SuiteRank, full: boolean): Promise<void> {
  const limitMs = full ? 20 * CASE_LIMIT_MS : CASE_LIMIT_MS;
  const { promise: limit, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`still running after ${limitMs} ms`)), limitMs);
  try {
    await Promise.race([each.run(rank), limit]);
  } finally {
    clearTimeout(timer);
  }
}
