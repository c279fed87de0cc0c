import { describe, expect, test } from "bun:test";
import { HashStore } from "../../store/index.ts";
import { AgreedMembers } from "./agreed-members.ts";

const store = () => new HashStore();
const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);

function membersOf(at: HashStore, rank: number, ranks: readonly number[], meeting = "0/0"): AgreedMembers {
  const plan = { group: "1", verb: "makes it of", rank, lists: [ranks], store: at, meeting, timeoutMs: 5_000 };
  return new AgreedMembers(plan);
}

async function errorOf(call: Promise<unknown>): Promise<{ code?: string; message: string; details?: object }> {
  const error: unknown = await call.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof Error) return error;
  throw new Error("it did not reject");
}

describe("ranks that make a group", () => {
  test("agree", async () => {
    const at = store();
    for (const rank of [2, 0, 5]) {
      const members = membersOf(at, rank, [0, 2, 5]);
      await members.compare();
      expect(await members.whileAgreed(Promise.resolve(rank))).toBe(rank);
    }
  });

  test.each([[[0, 1, 3]], [[3, 1, 0]], [[1, 3, 0]]])(
    "of different ranks, in the order %p, all get the same words",
    async (order) => {
      const at = store();
      const lists: Readonly<Record<number, number[]>> = { 0: [0, 1, 3], 1: [0, 1, 2], 3: [0, 1, 3] };
      const errors: string[] = [];
      for (const rank of order) {
        const members = membersOf(at, rank, lists[rank] ?? []);
        const waiting = members.compare().then(() => members.whileAgreed(new Promise<never>(() => {})));
        void errorOf(waiting).then(({ message }) => errors.push(message));
        await Bun.sleep(1);
      }
      while (errors.length < order.length) await Bun.sleep(5);
      expect(new Set(errors).size).toBe(1);
      const other = order.indexOf(0) < order.indexOf(3) ? 0 : 3;
      const lines = [`rank ${other} makes it of 0, 1, 3`, "rank 1 makes it of 0, 1, 2"];
      if (other > 1) lines.reverse();
      expect(errors[0]).toContain(`group "1": ${lines.join(", ")}. `);
    },
  );

  test("name no rank as the one at fault", async () => {
    const at = store();
    await membersOf(at, 0, [0, 1]).compare();
    const error = await errorOf(membersOf(at, 1, [1, 2]).compare());
    expect(error).toMatchObject({
      name: "DistBackendError",
      code: "DESYNC",
      details: { group: "1", rank: 1, peers: [] },
    });
  });

  test("do not disagree if each makes one of itself", async () => {
    const at = store();
    for (const rank of [0, 1]) {
      const members = membersOf(at, rank, [rank]);
      await members.compare();
      expect(await members.whileAgreed(Promise.resolve("made"))).toBe("made");
    }
  });

  test("need not be members to find the difference", async () => {
    const at = store();
    await membersOf(at, 2, [0, 1]).compare();
    const { message } = await errorOf(membersOf(at, 0, [0, 2]).compare());
    expect(message).toContain("rank 0 makes it of 0, 2, rank 2 makes it of 0, 1. ");
  });

  test("split it in the same way", async () => {
    const at = store();
    const splitOf = (rank: number, lists: number[][]) =>
      new AgreedMembers({ ...plan, rank, lists, store: at, timeoutMs: 5_000 });
    const plan = { group: "0:split:1", verb: "splits it into", meeting: "0/0" };
    const pairs = [
      [0, 1],
      [2, 3],
    ];
    await splitOf(0, pairs).compare();
    await splitOf(3, pairs).compare();
    // It is alone, and meets no other rank.
    await splitOf(2, [[2], [0, 1, 3]]).compare();
    const { message } = await errorOf(splitOf(1, [[0, 1, 2], [3]]).compare());
    expect(message).toContain(
      'group "0:split:1": rank 0 splits it into 0, 1 | 2, 3, rank 1 splits it into 0, 1, 2 | 3. ',
    );
  });

  test("do not compare with an earlier meeting", async () => {
    const at = store();
    await membersOf(at, 0, [0, 1]).compare();
    await membersOf(at, 1, [1, 2], "1/0").compare();
  });

  test("count the ranks of a long split, not its parts", async () => {
    const at = store();
    const splitOf = (rank: number, size: number) => {
      const lists = Array.from({ length: 40 / size }, (_, i) => range(i * size, (i + 1) * size));
      const plan = { group: "0:split:1", verb: "splits it into", meeting: "0/0", rank, lists, store: at };
      return new AgreedMembers({ ...plan, timeoutMs: 5_000 });
    };
    await splitOf(0, 2).compare();
    const { message } = await errorOf(splitOf(1, 4).compare());
    expect(message).toContain("rank 0 splits it into 0, 1 | 2, 3 | 4, 5 ");
    expect(message.split("… (40 in all)")).toHaveLength(3);
  });

  const many = range(0, 1_000);
  test.each<[string, number[], number[], string, string]>([
    ["at the end", many.slice(0, 999), many, "…, 984, 985, ", "998, 999 (1000 in all)"],
    ["at the start", [0, ...many.slice(2)], many.slice(0, 999), "0, 2, 3, ", "15, 16, … (999 in all)"],
    [
      "in the middle",
      [...range(0, 500), ...range(501, 1_000)],
      many.slice(0, 999),
      "…, 498, 499, 501, 502, ",
      "513, … (999 in all)",
    ],
  ])("see where long lists differ: %s", async (_, first, second, start, end) => {
    const at = store();
    await membersOf(at, 0, first).compare();
    const { message } = await errorOf(membersOf(at, 5, second).compare());
    expect(message).toContain(start);
    expect(message).toContain(end);
    expect(message.length).toBeLessThan(500);
  });
});
