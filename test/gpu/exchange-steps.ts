import * as dist from "../../src/index.ts";
import type { DType } from "../../src/tensor/index.ts";
import { COUNT, type Exchange, type Need, values } from "./exchange.ts";

interface ExchangeStep {
  /** It is left out where this is missing. */
  readonly needs?: Need;
  readonly run: (it: Exchange) => Promise<void>;
}

const dtypes: readonly DType[] = ["float32", "float64", "float16", "bfloat16", "int32", "int64", "uint8"];

/** In the order of parts/mixed-rank.py, which makes the same calls. */
export const exchangeSteps: readonly ExchangeStep[] = [
  ...dtypes.map((dtype) => ({
    async run(it: Exchange) {
      const tensor = it.own(dtype);
      await dist.allReduce(tensor);
      await it.check(`all-reduce ${dtype}`, tensor, it.total());
    },
  })),
  {
    async run(it) {
      const tensor = it.own();
      await dist.allReduce(tensor, { op: dist.ReduceOp.MAX });
      await it.check("all-reduce MAX", tensor, values(it.size - 1));
    },
  },
  {
    needs: "nccl",
    async run(it) {
      const mean = it.own();
      await dist.allReduce(mean, { op: dist.ReduceOp.AVG });
      await it.check(
        "all-reduce AVG",
        mean,
        it.total().map((each) => each / it.size),
      );
      const half = it.own();
      await dist.allReduce(half, { op: dist.ReduceOp.premulSum(0.5) });
      await it.check(
        "all-reduce PREMUL_SUM",
        half,
        it.total().map((each) => each / 2),
      );
      const flags = it.make(
        [0, 1, 0, 1].map((each) => (it.rank === 0 ? each : 0)),
        "bool",
      );
      await dist.allReduce(flags);
      await it.check("all-reduce bool", flags, [0, 1, 0, 1]);
      const complex = it.make(values(it.rank, 2 * COUNT), "complex64");
      await dist.allReduce(complex);
      await it.check("all-reduce complex64", complex, it.total(2 * COUNT));
    },
  },
  {
    needs: "nccl",
    async run(it) {
      const lists = [it.own("float32", 10), it.own("float32", 20)];
      await dist.allReduce(lists);
      for (const [i, each] of lists.entries())
        await it.check(`all-reduce of a list, ${i}`, each, it.total(10 + 10 * i));
    },
  },
  {
    async run(it) {
      for (const root of it.everyone) {
        const tensor = it.own();
        await dist.broadcast(tensor, { src: root });
        await it.check(`broadcast from ${root}`, tensor, values(root));
      }
    },
  },
  {
    async run(it) {
      for (const root of it.everyone) {
        const tensor = it.own();
        await dist.reduce(tensor, { dst: root });
        if (it.rank === root) await it.check(`reduce to ${root}`, tensor, it.total());
      }
    },
  },
  {
    async run(it) {
      const gathered = it.blank(it.size * COUNT);
      await dist.allGatherIntoTensor(gathered, it.own());
      const all = it.everyone.flatMap((rank) => values(rank));
      await it.check("all-gather into one tensor", gathered, all);
    },
  },
  {
    async run(it) {
      const parts = it.everyone.map(() => it.blank());
      await dist.allGather(parts, it.own());
      for (const [rank, part] of parts.entries()) await it.check(`all-gather of a list, ${rank}`, part, values(rank));
    },
  },
  {
    async run(it) {
      for (const root of it.everyone) {
        const outputs = it.everyone.map(() => it.blank());
        await dist.gather(it.own(), { dst: root, ...(it.rank === root && { outputs }) });
        if (it.rank !== root) continue;
        for (const [rank, part] of outputs.entries()) await it.check(`gather to ${root}, ${rank}`, part, values(rank));
      }
    },
  },
  {
    async run(it) {
      for (const root of it.everyone) {
        const output = it.blank();
        const inputs = it.everyone.map((rank) => it.own("float32", COUNT, rank));
        await dist.scatter(output, { src: root, ...(it.rank === root && { inputs }) });
        await it.check(`scatter from ${root}`, output, values(root, COUNT, it.rank));
      }
    },
  },
  {
    async run(it) {
      const part = it.blank();
      await dist.reduceScatterTensor(part, it.own("float32", it.size * COUNT));
      await it.check("reduce-scatter", part, it.total(COUNT, it.rank * COUNT));
    },
  },
  {
    needs: "nccl",
    async run(it) {
      const output = it.blank(5 + it.rank);
      await dist.reduceScatter(
        output,
        it.everyone.map((rank) => it.own("float32", 5 + rank)),
      );
      await it.check("reduce-scatter of unequal parts", output, it.total(5 + it.rank));
    },
  },
  {
    needs: "exchange",
    async run(it) {
      const received = it.blank(it.size * COUNT);
      await dist.allToAllSingle(received, it.own("float32", it.size * COUNT));
      const expected = it.everyone.flatMap((rank) => values(rank, COUNT, it.rank * COUNT));
      await it.check("all-to-all", received, expected);
      // Rank r has 3 + s elements for rank s.
      const splits = it.everyone.map((rank) => 3 + rank);
      const outputSplits = it.everyone.map(() => 3 + it.rank);
      const uneven = it.blank(it.size * (3 + it.rank));
      const input = it.own(
        "float32",
        splits.reduce((sum, each) => sum + each, 0),
      );
      await dist.allToAllSingle(uneven, input, { inputSplits: splits, outputSplits });
      const start = splits.slice(0, it.rank).reduce((sum, each) => sum + each, 0);
      const parts = it.everyone.flatMap((rank) => values(rank, 3 + it.rank, start));
      await it.check("all-to-all of unequal parts", uneven, parts);
    },
  },
  {
    needs: "exchange",
    async run(it) {
      const received = it.blank();
      const peer = 1 - it.rank;
      const works = dist.batchIsendIrecv([
        { op: dist.isend, tensor: it.own(), peer },
        { op: dist.irecv, tensor: received, peer },
      ]);
      await Promise.all(works);
      await it.check("messages that cross, in a batch", received, values(peer));
    },
  },
  {
    async run(it) {
      for (const sender of it.everyone) {
        const tensor = it.own();
        const peer = 1 - it.rank;
        await (it.rank === sender ? dist.send(tensor, { dst: peer }) : dist.recv(tensor, { src: peer }));
        await it.check(`message from ${sender}`, tensor, values(sender));
      }
    },
  },
  {
    async run(it) {
      const group = await dist.newGroup(it.everyone);
      if (group === null) throw new Error("newGroup() of all ranks gave none");
      const tensor = it.own();
      await dist.allReduce(tensor, { group });
      await it.check("all-reduce in another group", tensor, it.total());
      await dist.destroyProcessGroup(group);
    },
  },
  {
    async run(it) {
      await dist.barrier();
      it.steps.push({ name: "barrier" });
    },
  },
];
