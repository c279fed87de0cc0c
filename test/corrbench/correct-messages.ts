import type * as dist from "bun-c10d";
import type { Body, Correct, CorrectNotHere } from "./shape.ts";

const KB = 1_024;
/** The largest that every backend takes. */
const LARGE_TAG = 16_375;

const filled = (length: number, value: number): Int32Array => new Int32Array(length).fill(value);
const isFilled = (tensor: Int32Array, value: number): boolean => tensor.every((each) => each === value);
const othersOf = (rank: number, size: number): number[] =>
  Array.from({ length: size }, (_, other) => other).filter((other) => other !== rank);

/** Rank 0 sends what rank 1 returns. */
const pingPong =
  (counts: readonly number[], tag: number): Body =>
  async ({ group, rank, limit, end, expect }) => {
    if (rank > 1) return;
    for (const count of counts) {
      for (let turn = 0; turn < 3; turn++) {
        const tensor = filled(count, rank === 0 ? turn + 1 : 0);
        if (rank === 0) await end(group.send(tensor.slice(), { dst: 1, tag, ...limit }));
        if (rank === 0) tensor.fill(0);
        await end(group.recv(tensor, { src: 1 - rank, tag, ...limit }));
        expect(isFilled(tensor, turn + 1), true);
        if (rank === 1) await end(group.send(tensor, { dst: 0, tag, ...limit }));
      }
    }
  };

/** Every rank sends to all others and receives from all, and all that is started at once. */
const allAtOnce =
  (count: number): Body =>
  async ({ group, rank, size, limit, end, expect }) => {
    const others = othersOf(rank, size);
    const received = others.map(() => filled(count, -1));
    const works: dist.Work<unknown>[] = [
      ...others.map((dst) => group.send(filled(count, rank), { dst, ...limit })),
      ...others.map((src, i) => group.recv(received[i] ?? filled(count, -1), { src, ...limit })),
    ];
    for (const work of works) await end(work);
    for (const [i, src] of others.entries()) expect(isFilled(received[i] ?? filled(1, -1), src), true);
  };

/** Sends that are started before the receives, and waited for after them. */
const aheadOfReceives =
  (counts: readonly number[]): Body =>
  async ({ group, rank, limit, end, expect }) => {
    if (rank > 1) return;
    const sends = counts.map((count, i) => group.send(filled(count, i + rank), { dst: 1 - rank, tag: i, ...limit }));
    for (const [i, count] of counts.entries()) {
      const tensor = filled(count, -1);
      await end(group.recv(tensor, { src: 1 - rank, tag: i, ...limit }));
      expect(isFilled(tensor, i + 1 - rank), true);
    }
    for (const send of sends) await end(send);
  };

/** The correct programs of MPI-CorrBench's group `pt2pt` that can be written here. */
export const correctMessages: readonly Correct[] = [
  { name: "nothing but start and end", programs: ["simple"], body: async () => {} },
  {
    name: "messages there and back, 400 B to 4 MB",
    programs: ["sendrecv"],
    body: pingPong([100, 16 * KB, 256 * KB, KB * KB], 1),
  },
  { name: "messages with a large tag", programs: ["large_tag"], body: pingPong([1, 1_000], LARGE_TAG) },
  {
    name: "messages in a ring",
    programs: ["srtest"],
    async body({ group, rank, size, limit, end, expect }) {
      const token = filled(8, 0);
      const [dst, src] = [(rank + 1) % size, (rank + size - 1) % size];
      if (rank === 0) await end(group.send(filled(8, 1), { dst, ...limit }));
      await end(group.recv(token, { src, ...limit }));
      expect(isFilled(token, rank === 0 ? size : rank), true);
      if (rank !== 0) await end(group.send(filled(8, rank + 1), { dst, ...limit }));
    },
  },
  {
    name: "messages to all others, all at once",
    programs: ["isendirecv", "many_isend"],
    lacks: { nccl: "its messages are in one stream: a send occupies it until it is received" },
    body: allAtOnce(100),
  },
  {
    name: "large messages to all others, all at once",
    programs: ["huge_dupcomm", "manylmt"],
    lacks: { nccl: "its messages are in one stream: a send occupies it until it is received" },
    body: allAtOnce(256 * KB),
  },
  {
    name: "sends ahead of the receives, of different sizes",
    programs: ["bsend1", "bsend2", "bsend4", "bsendalign"],
    lacks: { nccl: "its messages are in one stream: a send occupies it until it is received" },
    body: aheadOfReceives([1, 7, 100, 1_000]),
  },
  {
    name: "large sends ahead of the receives, head to head",
    programs: ["bsendpending", "sendall", "sendrecv3"],
    lacks: { nccl: "its messages are in one stream: a send occupies it until it is received" },
    body: aheadOfReceives([64 * KB, 512 * KB, 1, 256 * KB]),
  },
  {
    name: "receives in another order than the sends, by tag",
    programs: ["patterns"],
    lacks: { nccl: "it has no tags" },
    async body({ group, rank, limit, end, expect }) {
      if (rank > 1) return;
      for (const count of [100, 64 * KB]) {
        if (rank === 0) {
          const first = group.send(filled(count, 1), { dst: 1, tag: 1, ...limit });
          const second = group.send(filled(count, 2), { dst: 1, tag: 2, ...limit });
          await end(first);
          await end(second);
        } else {
          const [one, two] = [filled(count, -1), filled(count, -1)];
          const second = group.recv(two, { src: 0, tag: 2, ...limit });
          const first = group.recv(one, { src: 0, tag: 1, ...limit });
          await end(first);
          await end(second);
          expect([isFilled(one, 1), isFilled(two, 2)], [true, true]);
        }
      }
    },
  },
  {
    name: "receives from any rank",
    programs: ["anyall", "huge_anysrc", "recv_any"],
    lacks: { ucc: "it cannot receive from any rank", nccl: "it cannot receive from any rank" },
    async body({ group, rank, limit, end, expect }) {
      const counts = [10, 9, 8, 64 * KB, 1];
      if (rank === 1) {
        for (const [i, count] of counts.entries())
          await end(group.send(filled(count, i), { dst: 0, tag: 3, ...limit }));
      }
      if (rank !== 0) return;
      const tensors = counts.map((count) => filled(count, -1));
      const works = tensors.map((tensor) => group.recv(tensor, { tag: 3, ...limit }));
      for (const [i, work] of works.entries()) {
        await end(work);
        expect([work.sourceRank(), tensors[i]?.[0]], [1, i]);
      }
    },
  },
  {
    name: "sends that nobody waits for",
    programs: ["rqfreeb"],
    async body({ group, rank, limit, end, expect }) {
      const values = [10, 20, 30, 40, 50];
      if (rank === 0) {
        const works = values.map((value, tag) => group.send(filled(1, value), { dst: 1, tag, ...limit }));
        // The others are dropped.
        const last = works.at(-1);
        if (last !== undefined) await end(last);
      }
      if (rank !== 1) return;
      for (const [tag, value] of values.entries()) {
        const tensor = filled(1, 0);
        await end(group.recv(tensor, { src: 0, tag, ...limit }));
        expect(tensor[0], value);
      }
    },
  },
  {
    name: "a receive that is asked whether it has ended",
    programs: ["rqstatus"],
    lacks: { nccl: "the Works of the test are only waited for" },
    async body({ group, rank, limit, end, expect }) {
      if (rank === 1) {
        await end(group.barrier(limit));
        await end(group.send(filled(4, 9), { dst: 0, ...limit }));
      } else if (rank === 0) {
        const tensor = filled(4, -1);
        const work = group.recv(tensor, { src: 1, ...limit });
        expect(work.isCompleted(), false);
        await end(group.barrier(limit));
        while (!work.isCompleted()) await Bun.sleep(1);
        await end(work);
        expect([work.sourceRank(), isFilled(tensor, 9)], [1, true]);
      } else {
        await end(group.barrier(limit));
      }
    },
  },
];

/** Those that cannot. */
export const messagesNotHere: readonly CorrectNotHere[] = [
  { reason: "messages to oneself: they are refused", programs: ["isendself", "isendselfprobe", "issendselfcancel"] },
  { reason: "a receive longer than its message: it is DESYNC here", programs: ["huge_underflow"] },
  { reason: "cancelling one op: only a group is aborted", programs: ["cancelanysrc", "rcancel", "scancel2"] },
  { reason: "probes", programs: ["probe_unexp", "probenull"] },
  { reason: "persistent requests", programs: ["bsend3", "inactivereq"] },
  {
    reason: "requests of one's own, null requests, statuses that one writes",
    programs: ["big_count_status", "greq1", "waittestnull"],
  },
  { reason: "dtypes of one's own", programs: ["bottom", "dtype_send"] },
  { reason: "communicators of two groups", programs: ["bsend5", "icsend"] },
  { reason: "MPI's clock", programs: ["wtime"] },
];
