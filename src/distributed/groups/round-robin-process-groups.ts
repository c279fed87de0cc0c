import { describe, InvalidArgumentError } from "../../errors/index.ts";
import { Pipeline, ProcessGroup } from "../../process-group/index.ts";
import { type BackendPlugin, BackendType, recorderOf } from "../../registry/index.ts";
import type { DeviceType } from "../../tensor/index.ts";
import { currentContext, type World } from "../dist-context.ts";
import { RoundRobinBackend } from "./round-robin-backend.ts";

/**
 * Combines several groups with the same ranks into one: its collectives go to them in turn, so that several are on the
 * wire at the same time. All ranks must use it for the same ops in the same order. The groups stay usable and separate.
 *
 * @param groups At least one group, all with the same ranks.
 * @throws InvalidArgumentError for an empty list, groups whose ranks differ, and groups that this rank is not in.
 *
 * c10d: `_round_robin_process_groups`.
 */
export function roundRobinProcessGroups(groups: readonly ProcessGroup[]): ProcessGroup {
  if (!Array.isArray(groups)) {
    throw new InvalidArgumentError(`roundRobinProcessGroups: groups must be a list, got ${describe(groups)}`, {
      argument: "groups",
    });
  }
  for (const [i, group] of groups.entries()) {
    if (group instanceof ProcessGroup) continue;
    throw new InvalidArgumentError(
      `roundRobinProcessGroups: groups[${i}] must be a group that this rank is in, got ${describe(group)}`,
      { argument: "groups" },
    );
  }
  const [first, ...others]: readonly ProcessGroup[] = groups;
  if (first === undefined) {
    throw new InvalidArgumentError("roundRobinProcessGroups: Specify at least 1 process group", { argument: "groups" });
  }
  const members = first.globalRanks.join(",");
  for (const group of others) {
    if (group.globalRanks.join(",") === members) continue;
    throw new InvalidArgumentError(
      `roundRobinProcessGroups: the groups must have the same ranks; "${first.name}" has ${members}, "${group.name}" has ${group.globalRanks.join(",")}`,
      { argument: "groups" },
    );
  }
  const { world } = currentContext();
  const name = freeName(`round_robin:${groups.map((group) => group.name).join(",")}`, world);
  const group = new ProcessGroup({
    name,
    description: "round_robin",
    rank: first.rank,
    globalRanks: first.globalRanks,
    timeoutMs: first.timeoutMs,
    boundDevice: first.boundDevice,
    isCombined: true,
    pipelines: first.deviceTypes.map((device) => inTurn(name, device, first, others)),
    ...(world && { recorder: recorderOf(world.container), world: world.id, status: world.status }),
    onClose: () => {
      if (world?.groups.get(name) === group) world.groups.delete(name);
      return Promise.resolve();
    },
  });
  world?.groups.set(name, group);
  return group;
}

/** Groups are found by name, so a second combination of the same groups gets a number. */
function freeName(name: string, world: World | undefined): string {
  let free = name;
  for (let i = 2; world?.groups.has(free); i++) free = `${name}#${i}`;
  return free;
}

function inTurn(group: string, type: DeviceType, first: ProcessGroup, others: readonly ProcessGroup[]): Pipeline {
  const { plugin: inner, device, clock } = first.pipeline(type);
  const backend = new RoundRobinBackend(
    first.pipeline(type),
    others.map((other) => other.pipeline(device)),
  );
  const { capabilities } = backend;
  const plugin: BackendPlugin = {
    name: backend.name,
    type: BackendType.CUSTOM,
    sdk: 2,
    devices: [type],
    bootstrap: "self",
    capabilities,
    probe: () => inner.probe(),
    create: () => Promise.reject(new InvalidArgumentError("use roundRobinProcessGroups()")),
  };
  return new Pipeline({ group, device, plugin, backend, capabilities, clock });
}
