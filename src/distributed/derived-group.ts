import { DistBackendError } from "../errors/index.ts";
import type { ProcessGroup } from "../process-group/index.ts";
import {
  type BackendPlugin,
  checkBackendOptions,
  clockOf,
  loggerOf,
  middlewareOf,
  recorderOf,
  type SettleLimit,
} from "../registry/index.ts";
import { PrefixStore } from "../store/index.ts";
import type { World } from "./dist-context.ts";
import { type GroupPlan, makeGroup, optionsOfGroup } from "./make-group.ts";

/** What a group of some ranks of another one is made with. */
export type DerivedPlan = Omit<GroupPlan, "store" | "logger" | "clock" | "middleware" | "recorder" | "onClose">;

/** Makes a group in the store of the default one, as in PyTorch ("default_pg/0//1//cpu//…"), and lists it. */
export async function makeDerivedGroup(world: World, plan: DerivedPlan): Promise<ProcessGroup> {
  const group = await makeGroup({
    ...plan,
    store: new PrefixStore(`${world.group.name}/`, world.base),
    logger: loggerOf(world.container),
    clock: clockOf(world.container),
    middleware: middlewareOf(world.container),
    recorder: recorderOf(world.container),
    onClose: () => {
      world.groups.delete(plan.name);
      return Promise.resolve();
    },
  });
  if (world.group.state === "CLOSED") {
    await group.close();
    throw new DistBackendError(`group "${plan.name}" is of no use: the default group was closed while it was made`, {
      code: "GROUP_CLOSED",
      group: plan.name,
    });
  }
  world.groups.set(group.name, group);
  return group;
}

/** The checked options of each plugin: those that are given, or those that `parent` has it with. */
export async function derivedOptions(
  parent: ProcessGroup,
  plugins: Iterable<BackendPlugin>,
  given: unknown,
  limit: SettleLimit,
): Promise<ReadonlyMap<BackendPlugin, object>> {
  return given === undefined ? optionsOfGroup(parent) : checkBackendOptions(plugins, given, limit);
}
