import { type OptionNames, requireOptionNames } from "../../collectives/option-names.ts";
import { captureCallSite, describe, InvalidArgumentError } from "../../errors/index.ts";
import type { ProcessGroup } from "../../process-group/index.ts";
import { type BackendType, clockOf, loggerOf, type OptionsOf, recorderOf, registryOf } from "../../registry/index.ts";
import { type Timeout, timeoutMs } from "../../time/index.ts";
import { resolveBackends } from "../backend-config.ts";
import { currentContext, type World } from "../dist-context.ts";
import { agreedMembers, derivedOptions, leaveToOthers, makeDerivedGroup } from "./derived-group.ts";
import { checksForNan, placeSplit } from "./make-group.ts";
import { nanOption } from "./nan-option.ts";
import { colorOfNewGroup, NO_COLOR } from "./split-color.ts";
import { type Making, whileMaking } from "./while-making.ts";

/** Options of {@link newGroup}. */
export interface NewGroupOptions<Name extends string = string> {
  /** As in `initProcessGroup`. Defaults to that of the default group. */
  readonly backend?: Name | BackendType;
  /** Default time-out of ops. Defaults to that of the default group. */
  readonly timeout?: Timeout;
  /** As in `initProcessGroup`. Defaults to the options with which the default group was made. */
  readonly options?: OptionsOf<Name>;
  /** For messages and tools. */
  readonly description?: string;
  /** As in `initProcessGroup`. Defaults to whether the default group was made with it. */
  readonly checkForNan?: boolean;
}

const optionNames: OptionNames<NewGroupOptions> = {
  backend: true,
  timeout: true,
  options: true,
  description: true,
  checkForNan: true,
};

/**
 * Makes a group of some of the ranks. All ranks of the default group, members or not, must make the same calls in the
 * same order.
 *
 * @param ranks Global ranks of the members, in any order (they are sorted); all ranks by default.
 * @returns The group, or `null` on ranks that are not members. An op on `null` resolves without effect.
 * @throws InvalidArgumentError for duplicates and for ranks that do not exist, DistBackendError (`DESYNC`) if another
 *   rank makes the group with other ranks, DistTimeoutError (`CONNECT_TIMEOUT`) if a backend or a middleware is not
 *   created within the group's time-out, DistStoreError and DistTimeoutError (`STORE_TIMEOUT`) if the store fails.
 *
 * c10d: `new_group`.
 */
export async function newGroup<const Name extends string = string>(
  ranks?: readonly number[],
  options: NewGroupOptions<Name> = {},
): Promise<ProcessGroup | null> {
  const [callSite, began] = [captureCallSite(), performance.now()];
  requireOptionNames("newGroup", options, optionNames);
  const world = currentContext().require();
  const members = checkRanks(ranks, world);
  const checkForNan = nanOption("newGroup", options.checkForNan, () => checksForNan(world.group));
  const limitMs = timeoutMs(options.timeout, world.group.timeoutMs);
  // As in PyTorch every call counts on every rank, so the names agree; synchronously, so that calls keep their order.
  const name = String(world.nextGroup++);
  using place = placeSplit(world.group);
  const limit = { limitMs, clock: clockOf(world.container), details: { group: name } };
  const backend = options.backend ?? backendStringOf(world);
  const plugins = await resolveBackends(backend, registryOf(world.container), limit, options.options);
  // Ops need not wait for a group of another backend.
  if (place !== undefined && plugins.get(place.deviceType) !== place.plugin) place[Symbol.dispose]();
  const backendOptions = await derivedOptions(world.group, plugins.values(), options.options, limit);
  const { rank: globalRank } = world.group;
  const rank = members.indexOf(globalRank);
  const making: Making = {
    ...{ maker: "newGroup", parent: world.group.name, group: name, callSite, began, globalRank },
    ...{ rank, globalRanks: members, timeoutMs: limitMs, world: world.id },
    ...{ recorder: recorderOf(world.container), logger: loggerOf(world.container) },
  };
  return await whileMaking(making, world.status, async () => {
    const agreed = await agreedMembers(world, {
      group: name,
      verb: "makes it of",
      rank: globalRank,
      lists: [members],
      timeoutMs: limitMs,
    });
    const plan = {
      name,
      description: options.description ?? "undefined",
      timeoutMs: limitMs,
      plugins,
      boundDevice: world.group.boundDevice,
      options: backendOptions,
      checkForNan,
    };
    if (rank < 0) {
      const splitFrom = { place, color: NO_COLOR };
      await leaveToOthers(world, { ...plan, splitFrom, rank: 0, globalRanks: [globalRank] });
      return null;
    }
    const splitFrom = { place, color: colorOfNewGroup(members) };
    return makeDerivedGroup(world, { ...plan, splitFrom, members: agreed, rank, globalRanks: members });
  });
}

function backendStringOf(world: World): string {
  const { group } = world;
  return group.deviceTypes.map((device) => `${device}:${group.backendName(device)}`).join(",");
}

function checkRanks(ranks: readonly number[] | undefined, world: World): number[] {
  const { size } = world.group;
  if (ranks === undefined) return [...world.group.globalRanks];
  if (!Array.isArray(ranks)) {
    throw new InvalidArgumentError(`newGroup: ranks must be a list of global ranks, got ${describe(ranks)}`, {
      op: "newGroup",
      argument: "ranks",
    });
  }
  const sorted = [...ranks].sort((a, b) => a - b);
  for (const [i, rank] of sorted.entries()) {
    if (!Number.isInteger(rank) || rank < 0 || rank >= size) {
      throw new InvalidArgumentError(`newGroup: rank ${rank} is out of range. Valid ranks are 0 to ${size - 1}`, {
        op: "newGroup",
        argument: "ranks",
      });
    }
    if (rank === sorted[i - 1]) {
      throw new InvalidArgumentError(
        `newGroup: ranks list must not contain duplicate entries, got [${ranks.join(", ")}]`,
        {
          op: "newGroup",
          argument: "ranks",
        },
      );
    }
  }
  if (sorted.length === 0) {
    throw new InvalidArgumentError("newGroup: ranks is an empty list", { op: "newGroup", argument: "ranks" });
  }
  return sorted;
}
