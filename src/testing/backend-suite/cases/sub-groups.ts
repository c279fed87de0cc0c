import { destroyProcessGroup } from "../../../distributed/index.ts";
import { anyBits, reduction, summands, tile } from "../patterns.ts";
import type { SuiteCase } from "../suite-case.ts";

export const subGroupCases: readonly SuiteCase[] = [
  {
    name: "sub-groups > members alone take part, roots by global and by group rank",
    ops: ["allReduce", "broadcast"],
    ranks: 2,
    makesGroups: true,
    async run(it) {
      // Without rank 0, so that ranks in the group differ from global ones.
      const members = it.ranks.slice(1);
      const group = await it.newGroup(members);
      it.check(
        (group === null) === (it.rank === 0),
        "newGroup() must return null on ranks that are not members, and only there",
      );
      if (group === null) return;
      const [pair = { dtype: "float32" as const, op: "SUM" as const }] = it.reductionsOf("allReduce");
      const { dtype } = pair;
      const summand = summands(dtype, "SUM", group.rank, members.length);
      const sum = it.place(dtype, tile(summand, dtype, 7));
      await it.end(group.allReduce(sum.tensor));
      it.checkBytes("allReduce in a sub-group", sum, tile(reduction(dtype, "SUM", members.length), dtype, 7));
      for (const [groupSrc, src] of members.entries()) {
        for (const root of [{ groupSrc }, { src }]) {
          const placed = it.place(dtype, tile(anyBits(dtype, it.rank), dtype, 5));
          await it.end(group.broadcast(placed.tensor, root));
          it.checkBytes(
            `broadcast in a sub-group from ${JSON.stringify(root)}`,
            placed,
            tile(anyBits(dtype, src), dtype, 5),
          );
        }
      }
      await destroyProcessGroup(group);
    },
  },
  {
    name: "sub-groups > the end of one leaves the others open",
    ops: ["allReduce"],
    makesGroups: true,
    async run(it) {
      const group = await it.newGroup();
      if (group === null) throw new Error("newGroup() of all ranks returned null");
      await destroyProcessGroup(group);
      it.check(group.state === "CLOSED", `the group that was destroyed is ${group.state}`);
      const [pair = { dtype: "float32" as const }] = it.reductionsOf("allReduce");
      const { dtype } = pair;
      const sum = it.place(dtype, tile(summands(dtype, "SUM", it.rank, it.worldSize), dtype, 7));
      await it.end(it.group.allReduce(sum.tensor));
      it.checkBytes("allReduce after another group's end", sum, tile(reduction(dtype, "SUM", it.worldSize), dtype, 7));
    },
  },
];
