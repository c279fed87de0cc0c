import * as dist from "bun-c10d";
import type { Place } from "../desync/place.ts";
import { pair, sendsAhead, unreceived, waitingForEachOther } from "./ends.ts";
import type { Body, End, Faulty, NotHere, Run } from "./shape.ts";
import {
  crossed,
  finishes,
  missing,
  notInitialized,
  refused,
  refusedTensor,
  type Sized,
  sized,
  size as sizes,
  unsupported,
  type Verdict,
} from "./verdict.ts";

const N = 1_000;
const MUCH = 8 << 20;
const TAG = 123;

const int32 = (shape: readonly number[], length = N) => dist.tensor(new Int32Array(length), { dtype: "int32", shape });

/** Rank 0 sends to rank 1, as it should. */
async function sends({ group, limit, end }: Run, tensor: dist.TensorLike = new Int32Array(N)): Promise<void> {
  await end(group.send(tensor, { dst: 1, tag: TAG, ...limit }));
}

/** Rank 1 receives from rank 0, as it should. */
async function receives({ group, limit, end }: Run, tensor: dist.TensorLike = new Int32Array(N)): Promise<void> {
  await end(group.recv(tensor, { src: 0, tag: TAG, ...limit }));
}

/** What ranks 0 and 1 do. */
function between(zero: Body, one: Body): Body {
  return async (run) => {
    if (run.rank === 0) await zero(run);
    if (run.rank === 1) await one(run);
  };
}

/** The sender refuses its call, and the receiver misses its message. */
const senderRefuses = (verdict: Verdict): End => pair([verdict], [missing("recv", 0)]);
/** The receiver refuses its call. */
const receiverRefuses = (verdict: Verdict): End => pair(unreceived, [verdict]);
/** The receiver sees a message of another size. A sender that has sent it ahead may be told, or have ended before. */
const sizesDiffer =
  (sent: Sized, expected: Sized) =>
  (place: Place): End =>
    pair([...(sendsAhead(place) ? [finishes] : []), sizes(sent, expected)], [sizes(sent, expected)]);

/** The receiver misses the message; a sender that waits for its receive as well sees that each waits for the other. */
const otherTag: End = pair([...unreceived, crossed("send", 0, 1)], ({ place }) =>
  sendsAhead(place) ? [missing("recv", 0)] : [missing("recv", 0), crossed("recv", 0, 1)],
);

const noRequest =
  "a request is a Work that the call returns; there is no place for it that could be missing, and dropping it is legal";
const noOutput = "`isCompleted()` returns what MPI_Test writes; there is no argument that could be null";
const nullGroup = "null is the group of a rank that is not in it: the call does nothing, and warns once per process";
const buffered = "a small message is sent before anyone receives it, as MPI allows; nobody waits for it afterwards";

/** Sending on no group; the receiver misses its message. */
const sendsOnNoGroup: Body = between(async ({ limit, end }) => {
  await end(dist.send(new Int32Array(N), { dst: 1, tag: TAG, group: null, ...limit }));
}, receives);

/** Each rank is alone in its part of the group, where the other one's number means nobody, or itself. */
const apart: Body = async ({ group, rank, size, limit, end }) => {
  const parts = Array.from({ length: size }, (_, each) => [each]);
  const row = await dist.splitGroup(parts, { group, timeout: "10s" });
  if (row === null) throw new Error("every rank is in a part");
  try {
    if (rank === 0) await end(row.send(new Int32Array(1), { groupDst: 1, tag: TAG, ...limit }));
    if (rank === 1) await end(row.recv(new Int32Array(1), { groupSrc: 0, tag: TAG, ...limit }));
  } finally {
    await row.close();
  }
};
const bothRefuse: End = pair([refused("send", "dst")], [refused("recv", "src")]);

/** Rank 0 sends with tag 0, rank 1 receives with tag 1. */
const tagsDiffer: Body = between(
  async ({ group, limit, end }) => {
    await end(group.send(new Int32Array([0, 2, 3, 4]), { dst: 1, tag: 0, ...limit }));
  },
  async ({ group, limit, end }) => {
    await end(group.recv(new Int32Array(4), { src: 0, tag: 1, ...limit }));
  },
);

/** Group `pt2pt` of MPI-CorrBench's `conflo`: 44 programs. */
export const messageFaults: readonly (Faulty | NotHere)[] = [
  { program: "ArgError-MPIIRecv-Reqest", fault: "a receive without a place for its request", notHere: noRequest },
  {
    program: "ArgError-MPIISend-Buffer",
    fault: "the tensor to send is null",
    body: between((run) => sends(run, null as never), receives),
    end: senderRefuses(refused("send", "tensor")),
  },
  {
    program: "ArgError-MPIISend-Communicator-1",
    fault: "the group of the send is null",
    body: sendsOnNoGroup,
    end: senderRefuses(finishes),
  },
  {
    program: "ArgError-MPIISend-Communicator-2",
    fault: "the ranks are in different parts of a group",
    body: apart,
    end: bothRefuse,
  },
  {
    program: "ArgError-MPIISend-Communicator-3",
    fault: "the same, with a receive that is started first",
    body: apart,
    end: bothRefuse,
  },
  {
    program: "ArgError-MPIISend-Count-1",
    fault: "the number of elements to send is -1",
    body: between(async (run) => sends(run, int32([-1])), receives),
    end: senderRefuses(refusedTensor("shape")),
  },
  {
    program: "ArgError-MPIISend-Count-2",
    fault: "one element more than the buffer has is sent",
    body: between(async (run) => sends(run, int32([N + 1])), receives),
    end: senderRefuses(refusedTensor("shape")),
  },
  {
    program: "ArgError-MPIISend-Count-4",
    fault: "the number of elements to send is computed as -1",
    body: between(async (run) => sends(run, int32([N - (N + 1)])), receives),
    end: senderRefuses(refusedTensor("shape")),
  },
  { program: "ArgError-MPIISend-Request", fault: "a send without a place for its request", notHere: noRequest },
  {
    program: "ArgError-MPIISend-Tag",
    fault: "the tag of the send is -1",
    body: between(async ({ group, limit, end }) => {
      await end(group.send(new Int32Array(N), { dst: 1, tag: -1, ...limit }));
    }, receives),
    end: senderRefuses(refused("send", "tag")),
  },
  {
    program: "ArgError-MPIISend-TargetRank",
    fault: "the destination is the number of ranks",
    body: between(async ({ group, size, limit, end }) => {
      await end(group.send(new Int32Array(N), { dst: size, tag: TAG, ...limit }));
    }, receives),
    end: senderRefuses(refused("send", "dst")),
  },
  {
    program: "ArgError-MPIISend-Type",
    fault: "the dtype of the send is null",
    body: between(async (run) => sends(run, dist.tensor(new Int32Array(N), { dtype: null as never })), receives),
    end: senderRefuses(refusedTensor("dtype")),
  },
  {
    program: "ArgError-MPIRecv-Buffer",
    fault: "the tensor of the receive is null",
    body: between(sends, (run) => receives(run, null as never)),
    end: receiverRefuses(refused("recv", "tensor")),
  },
  {
    program: "ArgError-MPIRecv-Communicator",
    fault: "the group of the receive is null",
    body: between(sends, async ({ limit, end }) => {
      await end(dist.recv(new Int32Array(N), { src: 0, tag: TAG, group: null, ...limit }));
    }),
    end: (place) =>
      sendsAhead(place)
        ? { kind: "missed", reason: `${nullGroup}. And ${buffered}` }
        : pair([missing("send", 1)], [finishes]),
  },
  {
    program: "ArgError-MPIRecv-Count",
    fault: "the number of elements to receive is -1",
    body: between(sends, async (run) => receives(run, int32([-1]))),
    end: receiverRefuses(refusedTensor("shape")),
  },
  {
    program: "ArgError-MPIRecv-Type-1",
    fault: "a float64 is received into a buffer of one byte",
    body: between(
      (run) => sends(run, new Float64Array([42])),
      (run) => receives(run, new Int8Array(1)),
    ),
    end: sizesDiffer(sized(8, "float64[1]"), sized(1, "int8[1]")),
  },
  {
    program: "ArgError-MPIRecv-Type-2",
    fault: "an int32 is sent, an int8 received",
    body: between(
      (run) => sends(run, new Int32Array([1])),
      (run) => receives(run, new Int8Array(1)),
    ),
    end: sizesDiffer(sized(4, "int32[1]"), sized(1, "int8[1]")),
  },
  {
    program: "ArgError-MPIRecv-Type-3",
    fault: "the dtype of the receive is null",
    body: between(sends, async (run) => receives(run, dist.tensor(new Int32Array(N), { dtype: null as never }))),
    end: receiverRefuses(refusedTensor("dtype")),
  },
  {
    program: "ArgError-MPISend-Buffer",
    fault: "the tensor to send is null",
    body: between((run) => sends(run, null as never), receives),
    end: senderRefuses(refused("send", "tensor")),
  },
  {
    program: "ArgError-MPISend-Communicator-1",
    fault: "the ranks are in different parts of a group",
    body: apart,
    end: bothRefuse,
  },
  {
    program: "ArgError-MPISend-Communicator-2",
    fault: "the same, with a receive that is started first",
    body: apart,
    end: bothRefuse,
  },
  {
    program: "ArgError-MPISend-Communicator-3",
    fault: "the group of the send is null",
    body: sendsOnNoGroup,
    end: senderRefuses(finishes),
  },
  {
    program: "ArgError-MPISend-Count-1",
    fault: "five times the elements that the buffer has are sent",
    body: between(async (run) => sends(run, int32([5 * N])), receives),
    end: senderRefuses(refusedTensor("shape")),
  },
  {
    program: "ArgError-MPISend-Count-2",
    fault: "the number of elements to send is -1",
    body: between(async (run) => sends(run, int32([-1])), receives),
    end: senderRefuses(refusedTensor("shape")),
  },
  {
    program: "ArgError-MPISend-Count-3",
    fault: "one element more than the buffer has is sent",
    body: between(async (run) => sends(run, int32([N + 1])), receives),
    end: senderRefuses(refusedTensor("shape")),
  },
  {
    program: "ArgError-MPISend-Rank",
    fault: "the destination is rank 10",
    body: between(async ({ group, limit, end }) => {
      await end(group.send(new Int32Array(N), { dst: 10, tag: TAG, ...limit }));
    }, receives),
    end: senderRefuses(refused("send", "dst")),
  },
  {
    program: "ArgError-MPISend-Tag-1",
    fault: "the tag of the send is -1",
    body: between(async ({ group, limit, end }) => {
      await end(group.send(new Int32Array(N), { dst: 1, tag: -1, ...limit }));
    }, receives),
    end: senderRefuses(refused("send", "tag")),
  },
  {
    program: "ArgError-MPISend-Tag-2",
    fault: "the tag of both is one more than the largest",
    body: between(
      async ({ group, limit, end }) => {
        await end(group.send(new Int32Array(N), { dst: 1, tag: 2 ** 31, ...limit }));
      },
      async ({ group, limit, end }) => {
        await end(group.recv(new Int32Array(N), { src: 0, tag: 2 ** 31, ...limit }));
      },
    ),
    end: pair([refused("send", "tag")], [refused("recv", "tag")]),
  },
  {
    program: "ArgError-MPISend-Type-2",
    fault: "the dtype of the send is null",
    body: between(async (run) => sends(run, dist.tensor(new Int32Array(N), { dtype: null as never })), receives),
    end: senderRefuses(refusedTensor("dtype")),
  },
  {
    program: "ArgError-MPISend-Type-3",
    fault: "buffers of one byte are sent and received as a float64",
    body: between(
      async (run) => sends(run, dist.tensor(new Uint8Array(1), { dtype: "float64" })),
      async (run) => receives(run, dist.tensor(new Uint8Array(1), { dtype: "float64" })),
    ),
    end: pair([refusedTensor("data")], [refusedTensor("data")]),
  },
  { program: "ArgError-MPITest-Flag", fault: "MPI_Test without a place for its answer", notHere: noOutput },
  { program: "ArgError-MPITest-Status", fault: "MPI_Test without a place for the status", notHere: noOutput },
  {
    program: "ArgMismatch-MPIIRecv-Tag-2",
    fault: "the tags of send and receive differ; the receive is non-blocking in MPI",
    body: tagsDiffer,
    end: otherTag,
  },
  {
    program: "ArgMismatch-MPIIrecv-buffer-overlap",
    fault: "two receives into overlapping memory at the same time",
    body: between(
      async (run) => {
        await sends(run);
        await sends(run, new Int32Array(N / 2));
      },
      async ({ group, limit, end }) => {
        const buffer = new Int32Array(N);
        const first = group.recv(buffer, { src: 0, tag: TAG, ...limit });
        const second = group.recv(buffer.subarray(N / 2), { src: 0, tag: TAG, ...limit });
        await end(first);
        await end(second);
      },
    ),
    end: { kind: "missed", reason: "the memory of ops in flight is not compared with that of others" },
  },
  {
    program: "ArgMismatch-MPIRecv-Tag-1",
    fault: "the tags of send and receive differ",
    body: tagsDiffer,
    end: otherTag,
  },
  {
    program: "ArgMismatch-MPIRecv-Tag-3",
    fault: "the tags of send and receive differ; the send is non-blocking in MPI",
    body: tagsDiffer,
    end: otherTag,
  },
  {
    program: "MisplacedCall-MPIRecv-Deadlock-1",
    fault: "both ranks receive before they send",
    async body({ group, rank, limit, end }) {
      if (rank > 1) return;
      await end(group.recv(new Int32Array(4), { src: 1 - rank, ...limit }));
      await end(group.send(new Int32Array(4), { dst: 1 - rank, ...limit }));
    },
    end: pair(waitingForEachOther("recv"), waitingForEachOther("recv")),
  },
  {
    program: "MisplacedCall-MPIRecv-Deadlock-4",
    fault: "both ranks send 4 KB before they receive",
    async body({ group, rank, limit, end, expect }) {
      if (rank > 1) return;
      const buffer = new Int32Array(N);
      await end(group.send(new Int32Array(N).fill(rank + 1), { dst: 1 - rank, tag: TAG, ...limit }));
      await end(group.recv(buffer, { src: 1 - rank, tag: TAG, ...limit }));
      expect(
        buffer.every((value) => value === 2 - rank),
        true,
      );
    },
    end: (place) =>
      sendsAhead(place)
        ? { kind: "missed", reason: "a small message is sent before anyone receives it, so the program ends well" }
        : pair(waitingForEachOther("send"), waitingForEachOther("send")),
  },
  {
    program: "MisplacedCall-MPISend",
    fault: "a call before the group is made",
    alone: "before init",
    async body({ limit, end }) {
      await end(dist.send(new Int32Array(1), { dst: 0, ...limit }));
    },
    end: { kind: "found", by: () => [notInitialized] },
  },
  {
    program: "MisplacedCall-MPIWait",
    fault: "the sender changes its buffer while it is sent",
    body: between(
      async ({ group, limit, end }) => {
        const buffer = Int32Array.from({ length: 100_000 }, (_, i) => i + 1);
        const work = group.send(buffer, { dst: 1, ...limit });
        buffer[0] = 10;
        await end(work);
      },
      async ({ group, limit, end }) => {
        await end(group.recv(new Int32Array(100_000), { src: 0, ...limit }));
      },
    ),
    end: { kind: "missed", reason: "the memory of ops in flight is not protected; the receiver gets either value" },
  },
  {
    program: "MissingCall-MPIFinalize",
    fault: "the program ends without `destroyProcessGroup()`",
    alone: "without destroy",
    async body({ group, rank, size, limit, end, expect }) {
      const ones = new Int32Array([rank + 1]);
      await end(group.allReduce(ones, limit));
      expect(ones[0], (size * (size + 1)) / 2);
    },
    end: { kind: "legal", reason: "a process without ops in flight ends by itself, with exit code 0" },
  },
  {
    program: "MissingCall-MPIRecv",
    fault: "rank 0 sends, nobody receives",
    body: between(
      async ({ group, limit, end }) => {
        await end(group.send(new Int32Array(3), { dst: 1, tag: TAG, ...limit }));
      },
      async () => {},
    ),
    end: (place) => (sendsAhead(place) ? { kind: "missed", reason: buffered } : pair([missing("send", 1)], [finishes])),
  },
  {
    program: "MissingCall-MPISend-Deadlock",
    fault: "rank 1 receives, nobody sends",
    body: between(async () => {}, receives),
    end: pair([finishes], [missing("recv", 0)]),
  },
  {
    program: "MissingCall-MPIWait",
    fault: "neither the send nor the receive is waited for",
    async body({ group, rank, limit, end, expect }) {
      const buffer = new Int32Array(10).fill(rank === 0 ? 7 : 0);
      if (rank === 0) group.send(buffer, { dst: 1, tag: TAG, ...limit });
      if (rank === 1) group.recv(buffer, { src: 0, tag: TAG, ...limit });
      // A message that is sent later with the same tag comes later.
      if (rank === 0) await end(group.send(new Int32Array(1), { dst: 1, tag: TAG, ...limit }));
      if (rank === 1) await end(group.recv(new Int32Array(1), { src: 0, tag: TAG, ...limit }));
      if (rank === 1)
        expect(
          buffer.every((value) => value === 7),
          true,
        );
    },
    end: { kind: "legal", reason: "the group keeps an op that nobody waits for; if it fails, that is a warning" },
  },
];

/** Faults of ours that the programs above come close to. */
export const moreFaults: readonly Faulty[] = [
  {
    program: "both send 8 MB first",
    fault: "as MisplacedCall-MPIRecv-Deadlock-4, with messages that nothing buffers",
    async body({ group, rank, limit, end }) {
      if (rank > 1) return;
      await end(group.send(new Float64Array(1 << 20), { dst: 1 - rank, ...limit }));
      await end(group.recv(new Float64Array(1 << 20), { src: 1 - rank, ...limit }));
    },
    end: pair(waitingForEachOther("send"), waitingForEachOther("send")),
  },
  {
    program: "message longer than its receive",
    fault: "as ArgError-MPISend-Count-3, but the sender's buffer has the element",
    body: between((run) => sends(run, new Int32Array(N + 1)), receives),
    end: sizesDiffer(sized(4 * N + 4, `int32[${N + 1}]`), sized(4 * N, `int32[${N}]`)),
  },
  {
    program: "message shorter than its receive",
    fault: "legal in MPI; here a message has the size of its receive",
    body: between((run) => sends(run, new Int32Array(1)), receives),
    end: sizesDiffer(sized(4, "int32[1]"), sized(4 * N, `int32[${N}]`)),
  },
  {
    program: "message of 8 MB longer than its receive",
    fault: "the same, with a message that nothing buffers",
    body: between(
      (run) => sends(run, new Float64Array((1 << 20) + 1)),
      (run) => receives(run, new Float64Array(1 << 20)),
    ),
    end: sizesDiffer(sized(MUCH + 8, "float64[1048577]"), sized(MUCH, "float64[1048576]")),
  },
  {
    program: "message longer than a receive from any rank",
    fault: "the same, with a receive that names no source",
    body: between(
      (run) => sends(run, new Int32Array(N + 1)),
      async ({ group, limit, end }) => {
        await end(group.recv(new Int32Array(N), { tag: TAG, ...limit }));
      },
    ),
    end: (place) =>
      place.backend === "ucc"
        ? receiverRefuses(unsupported("recv", "src"))
        : sizesDiffer(sized(4 * N + 4, `int32[${N + 1}]`), sized(4 * N, `int32[${N}]`))(place),
  },
];
