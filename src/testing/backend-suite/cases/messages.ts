import { anyBits, tile } from "../patterns.ts";
import type { SuiteCase } from "../suite-case.ts";

/** Equal to tag 1 in a transport that keeps 13 bits of it or fewer; MPI guarantees 15. */
const FAR_TAG = 1 + 2 ** 13;

/** send and recv. */
export const messageCases: readonly SuiteCase[] = [
  {
    name: "send and recv > round the ring, every dtype and size",
    ops: ["send", "recv"],
    ranks: 2,
    async run(it) {
      const next = (it.rank + 1) % it.worldSize;
      const previous = (it.rank + it.worldSize - 1) % it.worldSize;
      const dtypes = it.dtypesOf("send").filter((dtype) => it.dtypesOf("recv").includes(dtype));
      for (const [i, dtype] of dtypes.entries()) {
        for (const length of it.sizesFor(i, dtypes.length)) {
          const sent = it.place(dtype, tile(anyBits(dtype, it.rank), dtype, length));
          const received = it.empty(dtype, length);
          const sending = it.group.send(sent.tensor, { groupDst: next });
          const receiving = it.group.recv(received.tensor, { groupSrc: previous });
          const result = await it.end(receiving);
          await it.end(sending);
          const what = `recv of ${dtype}[${length}] from ${previous}`;
          it.check(result === received.tensor, `${what} does not resolve to the caller's tensor`);
          it.checkBytes(what, received, tile(anyBits(dtype, previous), dtype, length));
          it.checkUnchanged(`send of ${dtype}[${length}] to ${next}`, [sent]);
          if (it.capabilities.anySource !== true) continue;
          const source = receiving.sourceRank();
          it.check(source === it.group.globalRanks[previous], `${what}: sourceRank() is ${source}`);
        }
      }
    },
  },
  {
    name: "send and recv > tags tell messages apart",
    ops: ["send", "recv"],
    ranks: 2,
    async run(it) {
      const [dtype = "float32"] = it.dtypesOf("send");
      const length = 5;
      if (it.rank === 0) {
        const tags = [1, 2, 3, FAR_TAG];
        const sends = tags.map((tag) => {
          const placed = it.place(dtype, tile(anyBits(dtype, tag), dtype, length));
          return it.group.send(placed.tensor, { groupDst: 1, tag });
        });
        await Promise.all(sends);
      }
      if (it.rank !== 1) return;
      const receiving = [3, FAR_TAG, 1, 2].map((tag) => {
        const placed = it.empty(dtype, length);
        return { tag, placed, work: it.group.recv(placed.tensor, { groupSrc: 0, tag }) };
      });
      for (const { tag, placed, work } of receiving) {
        await work;
        it.checkBytes(`recv with tag ${tag}`, placed, tile(anyBits(dtype, tag), dtype, length));
      }
    },
  },
  {
    name: "send and recv > messages of one tag keep their order",
    ops: ["send", "recv"],
    ranks: 2,
    async run(it) {
      const [dtype = "float32"] = it.dtypesOf("send");
      const indices = Array.from({ length: 20 }, (_, i) => i);
      const lengthOf = (i: number): number => 1 + ((i * 7) % 5);
      if (it.rank === 0) {
        await Promise.all(
          indices.map((i) => {
            const placed = it.place(dtype, tile(anyBits(dtype, i), dtype, lengthOf(i)));
            return it.group.send(placed.tensor, { groupDst: 1 });
          }),
        );
      }
      if (it.rank !== 1) return;
      const placed = indices.map((i) => it.empty(dtype, lengthOf(i)));
      await Promise.all(placed.map(({ tensor }) => it.group.recv(tensor, { groupSrc: 0 })));
      for (const [i, each] of placed.entries()) {
        it.checkBytes(`message ${i} of one tag`, each, tile(anyBits(dtype, i), dtype, lengthOf(i)));
      }
    },
  },
  {
    name: "recv > from any source tells the source",
    ops: ["send", "recv"],
    claims: ["anySource"],
    ranks: 2,
    async run(it) {
      const [dtype = "float32"] = it.dtypesOf("send");
      const length = 9;
      const bits = (from: number) => tile(anyBits(dtype, from, 99), dtype, length);
      if (it.rank !== 0) {
        await it.end(it.group.send(it.place(dtype, bits(it.rank)).tensor, { groupDst: 0, tag: 5 }));
        return;
      }
      const sources = new Set<number>();
      for (const _ of it.ranks.slice(1)) {
        const placed = it.empty(dtype, length);
        const work = it.group.recv(placed.tensor, { tag: 5 });
        await it.end(work);
        const source = it.group.groupRankOf(work.sourceRank());
        it.checkBytes(`recv from any source, which was ${source}`, placed, bits(source));
        sources.add(source);
      }
      it.check(
        sources.size === it.worldSize - 1,
        `any source returned messages of ranks ${[...sources].join(", ")} only`,
      );
    },
  },
  {
    name: "recv > times out when nobody sends",
    idle: true,
    ops: ["recv"],
    ranks: 2,
    async run(it) {
      if (it.rank !== 0) {
        // The connection has to outlive the other rank's time-out.
        await it.store.get("timed out");
        return;
      }
      const [dtype = "float32"] = it.dtypesOf("recv");
      const started = performance.now();
      const work = it.group.recv(it.empty(dtype, 3).tensor, { groupSrc: 1, tag: 77, timeout: 120 });
      const error = await it.rejection("a recv without a send", work);
      const took = performance.now() - started;
      await it.store.set("timed out", "");
      it.check(error.name === "DistTimeoutError", `it failed with ${error.name}: ${error.message}`);
      it.check(took > 100, `it timed out after ${took} ms instead of 120`);
    },
  },
];
