import { DistBackendError } from "../../errors/index.ts";
import type { ProcessGroup } from "../../process-group/index.ts";
import {
  type BackendPlugin,
  checkBackendOptions,
  clockOf,
  loggerOf,
  middlewareOf,
  recorderOf,
  registryOf,
  type SettleLimit,
} from "../../registry/index.ts";
import { PrefixStore } from "../../store/index.ts";
import { LimitedStore } from "../../store/limited-store.ts";
import type { Store } from "../../store/store.ts";
import type { World } from "../dist-context.ts";
import { AgreedMembers, type MembersPlan } from "./agreed-members.ts";
import { type GroupPlan, makeGroup, optionsOfGroup, takePartInSplit } from "./make-group.ts";

/** What a group of some ranks of another group is made with. */
export type DerivedPlan = Omit<
  GroupPlan,
  "store" | "absent" | "logger" | "clock" | "registry" | "middleware" | "recorder" | "world" | "status" | "onClose"
> & {
  readonly members: AgreedMembers;
};

/**
 * Makes a group in the store of the default one, as in PyTorch ("default_pg/0//1//cpu//…"), and lists it.
 * @throws DistBackendError (`DESYNC`) if another rank makes it with other ranks.
 */
export async function makeDerivedGroup(world: World, { members, ...plan }: DerivedPlan): Promise<ProcessGroup> {
  const abandoned = new AbortController();
  const connecting = makeGroup({
    ...wholePlan(world, plan, LimitedStore.of(storeOf(world)).until(abandoned.signal)),
    onClose: () => {
      world.groups.delete(plan.name);
      return Promise.resolve();
    },
  });
  let isOver = false;
  const over = () => {
    isOver = true;
  };
  connecting.then(over, over);
  let group: ProcessGroup;
  try {
    group = await members.whileAgreed(connecting);
  } catch (error) {
    // Ranks that disagree do not wait for their connections; if these are established, they are closed.
    if (!isOver) abandoned.abort(error);
    connecting.then((late) => late.close()).catch(() => {});
    throw error;
  }
  if (world.group.state === "CLOSED") {
    await group.close();
    throw new DistBackendError(
      `group "${plan.name}" cannot be used: the default group was closed while it was being made`,
      {
        code: "GROUP_CLOSED",
        group: plan.name,
      },
    );
  }
  world.groups.set(group.name, group);
  return group;
}

/** Takes part, on a rank that is no member, in the split by which the others make a group. */
export async function leaveToOthers(world: World, plan: Omit<DerivedPlan, "members">): Promise<void> {
  await takePartInSplit(wholePlan(world, plan, LimitedStore.of(storeOf(world))));
}

function wholePlan(world: World, plan: Omit<DerivedPlan, "members">, store: Store): GroupPlan {
  return {
    ...plan,
    store,
    absent: world.absent,
    logger: loggerOf(world.container),
    clock: clockOf(world.container),
    registry: registryOf(world.container),
    middleware: middlewareOf(world.container),
    recorder: recorderOf(world.container),
    world: world.id,
    status: world.status,
  };
}

/** Compares this rank's plan with those of the others. Calls continue in the order in which they arrived here. */
export async function agreedMembers(
  world: World,
  plan: Omit<MembersPlan, "store" | "meeting">,
): Promise<AgreedMembers> {
  const store = new PrefixStore(`${plan.group}/`, storeOf(world));
  const members = new AgreedMembers({ ...plan, store, meeting: world.meeting });
  const own = members.compare();
  const allSoFar = Promise.allSettled([world.agreement, own]);
  world.agreement = allSoFar;
  await allSoFar;
  await own;
  return members;
}

function storeOf(world: World): Store {
  return new PrefixStore(`${world.group.name}/`, world.base);
}

/** The checked options of each plugin: the given ones, or those of `parent`. */
export async function derivedOptions(
  parent: ProcessGroup,
  plugins: Iterable<BackendPlugin>,
  given: unknown,
  limit: SettleLimit,
): Promise<ReadonlyMap<BackendPlugin, object>> {
  return given === undefined ? optionsOfGroup(parent) : checkBackendOptions(plugins, given, limit);
}
