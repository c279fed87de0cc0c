/** A rank of a case in which one rank is lost. */
import { isMainThread } from "node:worker_threads";
import { currentContext } from "../../distributed/dist-context.ts";
import { destroyProcessGroup, initProcessGroup, newGroup } from "../../distributed/index.ts";
import { type DistError, messageOf } from "../../errors/index.ts";
import { PrefixStore } from "../../store/index.ts";
import type { Work } from "../../work/index.ts";
import type { RankBody } from "../ranks/spawn-ranks.ts";
import { anyCollective } from "./cases/any-collective.ts";
import { loadMemory, type MemorySource, openMemory } from "./device-memory.ts";
import { endsInTime } from "./ends-in-time.ts";
import type { LossCase } from "./losses.ts";
import { loadPlugin, type PluginPlace } from "./plugin-place.ts";
import { SuiteRank } from "./suite-rank.ts";
import { DevicePlace, hostPlace } from "./tensor-place.ts";

export interface LossArgs extends PluginPlace {
  readonly lost: LossCase;
  /** The rank that is lost. */
  readonly culprit: number;
  readonly memory: MemorySource | undefined;
  /** Options for the backend. */
  readonly options: Readonly<Record<string, unknown>>;
}

/** What a rank reports after the loss of another one. */
export interface Survival {
  readonly checks: number;
  /** What went wrong; undefined if nothing. */
  readonly error: string | undefined;
  /** Whether its error names the lost rank. */
  readonly isNamed: boolean;
  /** Whether its backend reports a lost rank rather than a time-out: one of the survivors then has to name it. */
  readonly isKnown: boolean;
}

/** Limit of the op in which the rank is lost; how much later its error may arrive on a busy machine. */
const OP_LIMIT_MS = 1_200;
const LATE_MS = 3_000;
/** Limit of closing the group, and of ending the default one. */
const CLOSE_LIMIT_MS = 5_000;
/** How long a thread is blocked, where a process would be stopped. */
const STANDSTILL_MS = OP_LIMIT_MS + LATE_MS;
const SETUP_LIMITS = { timeout: 20_000 };

const codes = ["PEER_LOST", "OP_TIMEOUT"];

const body: RankBody<LossArgs> = async ({ rank, worldSize, args, report }) => {
  const { capabilities } = await loadPlugin(args);
  const { culprit, lost, options } = args;
  const opened = args.memory && (await openMemory(await loadMemory(args.memory), { rank, worldSize }));
  const world = await initProcessGroup({
    backend: args.backend,
    options,
    ...SETUP_LIMITS,
    ...(opened && { deviceId: opened.device }),
  });
  const group = await newGroup(undefined, { options, ...SETUP_LIMITS });
  if (group === null) throw new Error("newGroup() of all ranks returned null");
  const store = new PrefixStore("suite/loss", currentContext().require().store);
  const place = opened === undefined ? hostPlace : new DevicePlace(opened);
  const sweep = { full: false, sizes: [], large: 0, seed: 0 };
  const device = opened?.device;
  const it = new SuiteRank({ group, capabilities, sweep, canBlock: lost.mode === "wait", store, place, device });
  // The group has to work first: the lost rank must not be one that never arrived.
  await anyCollective(it, SETUP_LIMITS);
  if (rank === culprit) {
    await store.wait(
      it.ranks.filter((other) => other !== culprit).map((other) => `in flight/${other}`),
      SETUP_LIMITS,
    );
    await Bun.sleep(50);
    strike(lost.fault);
    return;
  }
  const naming = { isNamed: false, isKnown: false };
  try {
    await survive(it, args, naming);
    report({ checks: it.checks, error: undefined, ...naming } satisfies Survival);
  } catch (thrown) {
    report({ checks: it.checks, error: messageOf(thrown), ...naming } satisfies Survival);
    // An open group would keep the process alive.
    await Promise.allSettled([world.close()]);
  }
};

/** Ends this rank, or blocks it for a while. */
function strike(fault: LossCase["fault"]): void {
  if (isMainThread) process.kill(process.pid, fault === "kill" ? "SIGKILL" : "SIGSTOP");
  else if (fault === "kill") process.exit(0);
  else Bun.sleepSync(STANDSTILL_MS);
}

/** Checks what a backend guarantees the remaining ranks. */
async function survive(
  it: SuiteRank,
  { lost, culprit }: LossArgs,
  naming: { isNamed: boolean; isKnown: boolean },
): Promise<void> {
  const { group, store, capabilities } = it;
  const started = performance.now();
  const work = startOp(it, lost, culprit);
  await store.set(`in flight/${it.rank}`, "", SETUP_LIMITS);
  const what = `the ${lost.op} in which rank ${culprit} was lost`;
  const outcome = lost.mode === "wait" ? waited(work) : work;
  const error = await it.rejection(what, outcome, OP_LIMIT_MS + LATE_MS);
  const took = performance.now() - started;
  it.check(took < OP_LIMIT_MS + LATE_MS, `${what} ended after ${Math.round(took)} ms; its limit is ${OP_LIMIT_MS} ms`);
  it.check(codes.includes(error.code), `${what} failed with ${nameOf(error)}, not with ${codes.join(" or ")}`);
  const { peers = [] } = error.details;
  naming.isNamed = peers.includes(culprit);
  naming.isKnown = lost.fault === "kill" && capabilities.abort === true && error.code === "PEER_LOST";
  // It may have been notified of the loss by a third rank that gave up because of it. Of two ranks there is no third.
  const others = it.worldSize > 2 ? peers.length > 0 : naming.isNamed;
  it.check(
    others || (peers.length === 0 && !naming.isKnown),
    `${what} failed with ${nameOf(error)}, whose details.peers are [${peers.join(", ")}]`,
  );
  it.check(group.state === "FAILED", `the group is ${group.state} after rank ${culprit} was lost`);
  const next = await it.rejection("an op on the failed group", anyCollective(it), 1_000);
  it.check(
    next.code === "GROUP_FAILED",
    `an op on the failed group failed with ${nameOf(next)}, not with GROUP_FAILED`,
  );
  await endsInTime(it, "close() of the failed group", CLOSE_LIMIT_MS, () => group.close());
  it.check(group.state === "CLOSED", `the group is ${group.state} after close()`);
  await endsInTime(it, "destroyProcessGroup() without the lost rank", CLOSE_LIMIT_MS, () => destroyProcessGroup());
}

function startOp(it: SuiteRank, { op }: LossCase, culprit: number): Work<unknown> {
  const limits = { timeout: OP_LIMIT_MS };
  if (op === "collective") return anyCollective(it, limits);
  const [dtype = "float32"] = it.dtypesOf("recv");
  return it.group.recv(it.empty(dtype, 3).tensor, { groupSrc: culprit, ...limits });
}

async function waited(work: Work<unknown>): Promise<void> {
  work.wait();
}

const nameOf = ({ name, code, message }: DistError): string => `${name} (${code}): ${message}`;

export default body;
