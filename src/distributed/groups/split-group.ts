import { type OptionNames, requireOptionNames } from "../../collectives/option-names.ts";
import { captureCallSite, InvalidArgumentError } from "../../errors/index.ts";
import type { ProcessGroup } from "../../process-group/index.ts";
import { clockOf, loggerOf, recorderOf } from "../../registry/index.ts";
import { type Timeout, timeoutMs } from "../../time/index.ts";
import { currentContext } from "../dist-context.ts";
import { agreedMembers, derivedOptions, leaveToOthers, makeDerivedGroup } from "./derived-group.ts";
import { checksForNan, placeSplit } from "./make-group.ts";
import { nanOption } from "./nan-option.ts";
import { colorOfPart, NO_COLOR } from "./split-color.ts";
import { type Making, whileMaking } from "./while-making.ts";

/** Options of {@link splitGroup}. */
export interface SplitGroupOptions {
  /** The group to split; the default group by default. `null` on ranks that are not members of it. */
  readonly group?: ProcessGroup | null;
  /** Default time-out of ops; that of the split group by default. */
  readonly timeout?: Timeout;
  /** As in `initProcessGroup`. Defaults to the options with which the split group was made. */
  readonly options?: Readonly<Record<string, unknown>>;
  /** What the group is for; passed to middleware and backends. */
  readonly description?: string;
  /** As in `initProcessGroup`. Defaults to whether the split group was made with it. */
  readonly checkForNan?: boolean;
}

const optionNames: OptionNames<SplitGroupOptions> = {
  group: true,
  timeout: true,
  options: true,
  description: true,
  checkForNan: true,
};
const splits = new WeakMap<ProcessGroup, number>();

/**
 * Splits a group into disjoint parts. Every rank of the group must call it with the same parts; ranks outside of the
 * group do not take part.
 *
 * @param parts The group ranks of each part.
 * @returns The part that this rank is in, or `null` if it is in none.
 * @throws InvalidArgumentError for empty parts, ranks that do not exist, ranks in several parts, and a closed group;
 *   DistBackendError (`DESYNC`) if another rank passes other parts.
 *
 * c10d: `split_group`.
 */
export async function splitGroup(
  parts: readonly (readonly number[])[],
  options: SplitGroupOptions = {},
): Promise<ProcessGroup | null> {
  const [callSite, began] = [captureCallSite(), performance.now()];
  requireOptionNames("splitGroup", options, optionNames);
  const world = currentContext().require();
  if (options.group === null) return null;
  const parent = options.group ?? world.group;
  if (world.groups.get(parent.name) !== parent) {
    throw new InvalidArgumentError(
      "splitGroup: Invalid process group specified: it is closed, or not a group of this rank",
      {
        op: "splitGroup",
        argument: "group",
      },
    );
  }
  checkParts(parts, parent);
  const checkForNan = nanOption("splitGroup", options.checkForNan, () => checksForNan(parent));
  const limitMs = timeoutMs(options.timeout, parent.timeoutMs);
  // Counted on every rank of the parent, so that the names agree and are never used again.
  const count = (splits.get(parent) ?? 0) + 1;
  splits.set(parent, count);
  using place = placeSplit(parent);
  const plugins = new Map(parent.deviceTypes.map((device) => [device, parent.plugin(device)] as const));
  const limit = { limitMs, clock: clockOf(world.container), details: { group: parent.name } };
  const backendOptions = await derivedOptions(parent, plugins.values(), options.options, limit);
  const split = `${parent.name}:split:${count}`;
  const lists = parts.map((part) => [...part].sort((a, b) => a - b)).sort(([a = 0], [b = 0]) => a - b);
  const members = lists.find((part) => part.includes(parent.rank));
  const making: Making = {
    ...{ maker: "splitGroup", parent: parent.name, group: split, callSite, began },
    ...{ globalRank: world.group.rank, recorder: recorderOf(world.container), logger: loggerOf(world.container) },
    ...{ timeoutMs: limitMs, world: world.id },
    rank: members?.indexOf(parent.rank) ?? -1,
    globalRanks: (members ?? []).map((rank) => parent.globalRanks[rank] ?? -1),
  };
  return await whileMaking(making, world.status, async () => {
    const agreed = await agreedMembers(world, {
      group: split,
      verb: "splits it into",
      rank: parent.rank,
      lists,
      timeoutMs: limitMs,
    });
    const plan = {
      description: options.description ?? `${parent.description}:split:${count}`,
      timeoutMs: limitMs,
      plugins,
      boundDevice: parent.boundDevice,
      options: backendOptions,
      checkForNan,
    };
    if (members === undefined) {
      const splitFrom = { place, color: NO_COLOR };
      await leaveToOthers(world, { ...plan, name: split, splitFrom, rank: 0, globalRanks: [world.group.rank] });
      return null;
    }
    const name = `${split}:${members.join(",")}`;
    const { rank, globalRanks } = making;
    const splitFrom = { place, color: colorOfPart(members) };
    return makeDerivedGroup(world, { ...plan, name, splitFrom, members: agreed, rank, globalRanks });
  });
}

function checkParts(parts: readonly (readonly number[])[], parent: ProcessGroup): void {
  const fail = (what: string): never => {
    throw new InvalidArgumentError(`splitGroup: ${what}`, { op: "splitGroup", argument: "parts", group: parent.name });
  };
  if (!Array.isArray(parts) || parts.length === 0) fail("parts must be a list of lists of ranks, and not empty");
  const seen = new Set<number>();
  for (const part of parts) {
    if (!Array.isArray(part) || part.length === 0) fail("Split ranks cannot be empty");
    for (const rank of part) {
      if (!Number.isInteger(rank) || rank < 0 || rank >= parent.size) {
        fail(`rank ${rank} is not in group "${parent.name}", which has ranks 0 to ${parent.size - 1}`);
      }
      if (seen.has(rank)) fail(`Split ranks should not have duplicates, but rank ${rank} appears twice`);
      seen.add(rank);
    }
  }
}
