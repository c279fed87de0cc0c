import { OpType } from "../../../collectives/index.ts";
import { destroyProcessGroup } from "../../../distributed/index.ts";
import { messageOf } from "../../../errors/index.ts";
import type { Work } from "../../../work/index.ts";
import { anyBits, reduction, summands, tile } from "../patterns.ts";
import type { SuiteCase } from "../suite-case.ts";
import type { SuiteRank } from "../suite-rank.ts";
import { anyCollective } from "./any-collective.ts";

/** An all-reduce of the i-th size and dtype, and the check of its result. */
function startReduction(it: SuiteRank, i: number, group = it.group) {
  const pairs = it.reductionsOf("allReduce").filter(({ op }) => op === "SUM");
  const { dtype } = pairs[i % pairs.length] ?? { dtype: "float32" as const };
  const length = (i * 37) % 300;
  const placed = it.place(dtype, tile(summands(dtype, "SUM", it.rank, it.worldSize), dtype, length, i));
  const work = group.allReduce(placed.tensor);
  const check = () =>
    it.checkBytes(
      `op ${i}, allReduce SUM of ${dtype}[${length}]`,
      placed,
      tile(reduction(dtype, "SUM", it.worldSize), dtype, length, i),
    );
  return { work, placed, check };
}

export const orderingCases: readonly SuiteCase[] = [
  {
    name: "overlap > many collectives in flight keep their order",
    ops: ["allReduce"],
    async run(it) {
      const started = Array.from({ length: 100 }, (_, i) => startReduction(it, i));
      const seqs = started.map(({ work }) => work.seq);
      it.check(
        it.capabilities.sequenceNumbers !== true || seqs.every((seq, i) => i === 0 || seq === (seqs[i - 1] ?? 0) + 1),
        `sequence numbers do not count up: ${seqs.join(", ")}`,
      );
      for (const { work, check } of started.reverse()) {
        await work;
        check();
      }
    },
  },
  {
    name: "overlap > messages pass between collectives",
    ops: ["allReduce", "send", "recv"],
    ranks: 2,
    overtakes: true,
    async run(it) {
      const [dtype = "float32"] = it.dtypesOf("send");
      const next = (it.rank + 1) % it.worldSize;
      const previous = (it.rank + it.worldSize - 1) % it.worldSize;
      const rounds = Array.from({ length: 15 }, (_, i) => {
        const received = it.empty(dtype, 33);
        const receiving = it.group.recv(received.tensor, { groupSrc: previous, tag: i });
        const reducing = startReduction(it, i);
        const sent = it.place(dtype, tile(anyBits(dtype, it.rank, i), dtype, 33));
        return { received, receiving, reducing, sending: it.group.send(sent.tensor, { groupDst: next, tag: i }) };
      });
      for (const [i, { received, receiving, reducing, sending }] of rounds.entries()) {
        await Promise.all([receiving, sending, reducing.work]);
        reducing.check();
        it.checkBytes(`message ${i}`, received, tile(anyBits(dtype, previous, i), dtype, 33));
      }
    },
  },
  {
    name: "overlap > two groups side by side",
    ops: ["allReduce"],
    makesGroups: true,
    async run(it) {
      const other = await it.newGroup();
      if (other === null) throw new Error("newGroup() of all ranks returned null");
      const started = Array.from({ length: 20 }, (_, i) => startReduction(it, i, i % 2 === 0 ? it.group : other));
      for (const { work, check } of started) {
        await work;
        check();
      }
      await it.store.barrier("before destroy", it.worldSize);
      await destroyProcessGroup(other);
    },
  },
  {
    name: "coalescing > ops that are submitted together give what they give alone",
    ops: ["allReduce"],
    async run(it) {
      const started: ReturnType<typeof startReduction>[] = [];
      const whole = it.group.coalescing(() => {
        for (let i = 0; i < 24; i++) started.push(startReduction(it, i >> 1));
      });
      await it.end(whole);
      for (const { work, check } of started) {
        it.check(work.isSuccess(), "an op of an ended coalescing has not ended");
        check();
      }
    },
  },
  {
    name: "coalescing > the Work of each op ends with its own op",
    ops: ["allReduce", "broadcast"],
    async run(it) {
      const [dtype = "float32"] = it.dtypesOf("broadcast");
      const wrong: string[] = [];
      const started: Work<unknown>[] = [];
      const whole = it.group.coalescing(() => {
        for (let i = 0; i < 6; i++) {
          const sum = startReduction(it, i + 1);
          const root = i % it.worldSize;
          const placed = it.place(dtype, tile(anyBits(dtype, it.rank, i), dtype, 40 * i));
          const copy = it.group.broadcast(placed.tensor, { groupSrc: root });
          const expected = tile(anyBits(dtype, root, i), dtype, 40 * i);
          const checks = [sum.check, () => it.checkBytes(`broadcast ${i}`, placed, expected)];
          for (const [k, work] of [sum.work, copy].entries()) {
            started.push(work);
            work.whenEnded(() => {
              try {
                if (work.isSuccess()) checks[k]?.();
              } catch (error) {
                wrong.push(messageOf(error));
              }
            });
          }
        }
      });
      await whole;
      it.check(wrong.length === 0, `Works ended before their ops: ${wrong.join("; ")}`);
      const seqs = started.map(({ seq }) => seq);
      const areInOrder = seqs.every((seq, i) => i === 0 || seq > (seqs[i - 1] ?? 0));
      it.check(
        it.capabilities.sequenceNumbers !== true || areInOrder,
        `sequence numbers of a batch: ${seqs.join(", ")}`,
      );
    },
  },
  {
    name: "coalescing > a refused op sends nothing of the whole",
    ops: ["allReduce"],
    async run(it) {
      // Some ranks have one op more: a batch that is refused takes one turn, however many ops it has.
      const whole = it.group.coalescing(() => {
        for (let i = 0; i <= it.rank % 2; i++) startReduction(it, 1);
        it.group.allReduce(it.empty("float32", 1).tensor, { timeout: 0 }).catch(() => {});
      });
      const error = await it.rejection("coalescing with a wrong argument", whole, 1_000);
      it.check(error.name === "InvalidArgumentError", `it failed with ${error.name}: ${error.message}`);
      const { work, check } = startReduction(it, 2);
      await it.end(work);
      check();
    },
  },
  {
    name: "Work > has ended only when the data is there",
    ops: ["allReduce"],
    async run(it) {
      for (let i = 1; i <= 10; i++) {
        const { work, check } = startReduction(it, i);
        for (const limit = performance.now() + 4_000; !work.isCompleted() && performance.now() < limit; ) {
          await new Promise((resolve) => setImmediate(resolve));
        }
        it.check(work.isCompleted(), `op ${i} does not complete until it is awaited`);
        check();
        await work;
      }
    },
  },
  {
    name: "Work > tells what it was and how it ended",
    ops: ["allReduce"],
    async run(it) {
      const { work, placed, check } = startReduction(it, 3);
      const [first, second] = await Promise.all([work, work]);
      check();
      it.check(first === placed.tensor && second === placed.tensor, "awaiting twice returns different results");
      it.check(work.isCompleted() && work.isSuccess(), "an op that was awaited is not completed and successful");
      it.check(work.exception() === undefined, `exception() is ${work.exception()}`);
      it.check(work.result() === placed.tensor, "result() is not the caller's tensor");
      it.check(work.wait(), "wait() after the end is not true");
      const { opType, timeStarted, timeFinished, activeDuration } = work.info();
      it.check(opType === OpType.ALLREDUCE, `info().opType is ${opType}`);
      it.check(timeFinished !== undefined && timeFinished >= timeStarted, "info() has no time of the end");
      it.check(activeDuration >= 0 && activeDuration < 60_000, `info().activeDuration is ${activeDuration}`);
    },
  },
  {
    name: "Work > says how long it took where that is measured, and ops go on as before",
    async run(it) {
      it.group.enableCollectivesTiming();
      const works = [anyCollective(it), ...("barrier" in it.capabilities.ops ? [it.group.barrier()] : [])];
      await Promise.all(works);
      for (const work of works) {
        const { activeDuration } = work.info();
        it.check(activeDuration >= 0 && activeDuration < 60_000, `info().activeDuration is ${activeDuration}`);
      }
    },
  },
  {
    name: "Work > wait() blocks until the data is there",
    ops: ["allReduce"],
    blocking: true,
    async run(it) {
      for (let i = 0; i < 20; i++) {
        if (i % it.worldSize === it.rank) Bun.sleepSync(3);
        const { work, placed, check } = startReduction(it, i);
        it.check(work.wait(), "wait() is not true");
        check();
        it.check(work.result() === placed.tensor, "result() after wait() is not the caller's tensor");
      }
    },
  },
  {
    name: "Work > wait() with a limit has the data of ops that end within it",
    ops: ["reduce"],
    blocking: true,
    async run(it) {
      const [pair] = it.reductionsOf("reduce").filter(({ op }) => op === "SUM");
      const dtype = pair?.dtype ?? "float32";
      for (let i = 0; i < 2 * it.worldSize; i++) {
        const root = i % it.worldSize;
        if (i < it.worldSize && root === it.rank) Bun.sleepSync(3);
        const placed = it.place(dtype, tile(summands(dtype, "SUM", it.rank, it.worldSize), dtype, 300, i));
        const work = it.group.reduce(placed.tensor, { dst: it.group.globalRanks[root] ?? root });
        // Less than the limit of the op.
        it.check(work.wait({ timeout: "4s" }), "wait() is not true");
        if (root !== it.rank) continue;
        it.checkBytes(`reduce ${i}`, placed, tile(reduction(dtype, "SUM", it.worldSize), dtype, 300, i));
      }
    },
  },
];
