import { expect, setDefaultTimeout, test } from "bun:test";
import { describeGloo } from "../../backends/gloo/fixtures/availability.ts";
import * as dist from "../../index.ts";
import { memoryPlugin } from "../../process-group/fixtures/memory-backend.ts";
import { localRanks, spawnRanks } from "../../testing/index.ts";

setDefaultTimeout(60_000);

describeGloo("groups made of groups", () => {
  test("splitGroup and roundRobinProcessGroups with 3 ranks", async () => {
    const outcomes = await spawnRanks(3, new URL("../fixtures/derived-groups.ts", import.meta.url));
    for (const { rank, error, exitCode, value } of outcomes) {
      expect(error).toBeUndefined();
      expect(exitCode).toBe(0);
      const sum = rank === 1 ? 2 : 4;
      expect(value).toEqual({
        sums: [sum, sum],
        outside: rank === 2 ? null : 2,
        reduced: Array.from({ length: 20 }, (_, i) => 3 * i + 3),
        listed: [1, 2, 3],
        objects: [0, 1, 2],
        perLane: [0, 0],
        state: ["CLOSED", "CLOSED"],
      });
    }
  });
});

test("roundRobinProcessGroups requires groups with the same ranks", async () => {
  await localRanks(2, async ({ rank, group }) => {
    const alone = await dist.newGroup([rank]);
    const bad: [unknown, string][] = [
      [[], "Specify at least 1 process group"],
      [undefined, "groups must be a list, got undefined"],
      [[group, null], "groups[1] must be a group that this rank is in, got null"],
      [[group, alone], 'the groups must have the same ranks; "0" has 0,1'],
    ];
    for (const [groups, message] of bad) {
      expect(() => dist.roundRobinProcessGroups(groups as dist.ProcessGroup[])).toThrow(message);
      expect(() => dist.roundRobinProcessGroups(groups as dist.ProcessGroup[])).toThrow(dist.InvalidArgumentError);
    }
  });
});

test("several round robins of the same groups end one by one", async () => {
  await localRanks(1, async ({ group }) => {
    const lanes = [group, await dist.newGroup()].filter((each) => each !== null);
    const [first, second] = [dist.roundRobinProcessGroups(lanes), dist.roundRobinProcessGroups(lanes)];
    await dist.destroyProcessGroup(first);
    expect([first.state, second.state]).toEqual(["CLOSED", "OPEN"]);
    await second.allReduce(new Float32Array(1));
    await dist.destroyProcessGroup(second);
    await group.barrier();
  });
});

test("splitGroup of a group that this rank is not in, or that is closed", async () => {
  await localRanks(1, async ({ group }) => {
    expect(await dist.splitGroup([[0]], { group: null })).toBeNull();
    const other = await dist.newGroup();
    await other?.close();
    await expect(dist.splitGroup([[0]], { group: other })).rejects.toThrow("Invalid process group specified");
    const part = await dist.splitGroup([[0]]);
    expect([part?.size, group.state]).toEqual([1, "OPEN"]);
  });
});

test("a group that is made while the default one ends is closed", async () => {
  const plugin = memoryPlugin("slow");
  const connected = Promise.withResolvers<void>();
  const container = dist.createContainer({
    overrides: [
      {
        ...plugin,
        create: async (context) => {
          if (context.groupName !== "0") await connected.promise;
          return plugin.create(context);
        },
      },
    ],
  });
  const meeting = { store: new dist.HashStore(), rank: 0, worldSize: 1 };
  await dist.initProcessGroup({ backend: "slow", container, ...meeting });
  const made = dist.newGroup();
  await dist.destroyProcessGroup();
  connected.resolve();
  await expect(made).rejects.toThrow("the default group was closed while it was being made");
  expect(plugin.made.map(({ closed }) => closed)).toEqual([1, 1]);
});

test("splitGroup refuses invalid parts", async () => {
  await using _group = await dist.initProcessGroup({
    backend: "gloo",
    store: new dist.HashStore(),
    rank: 0,
    worldSize: 1,
  });
  await expect(dist.splitGroup([])).rejects.toThrow("not empty");
  await expect(dist.splitGroup([[]])).rejects.toThrow("cannot be empty");
  await expect(dist.splitGroup([[0], [0]])).rejects.toThrow("duplicates");
  await expect(dist.splitGroup([[1]])).rejects.toThrow("rank 1 is not in group");
});
