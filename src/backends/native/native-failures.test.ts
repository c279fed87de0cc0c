import { describe, expect, test } from "bun:test";
import { constants } from "node:os";
import { OpType } from "../../collectives/op-type.ts";
import { type NativeFailure, type NativeGroup, type NativeWork, ownFailure, Status } from "../../native/index.ts";
import type { BackendContext } from "../../registry/index.ts";
import { HashStore } from "../../store/index.ts";
import { NativeFailures } from "./native-failures.ts";

function setup(size = 1, rank = 0) {
  const store = new HashStore();
  const context = { store, rank, size, groupName: "7", timeoutMs: 1_000 } as unknown as BackendContext;
  return { store, failures: new NativeFailures("native", context) };
}

const workOf = (opType: OpType, seq: number) => ({ opType, seq }) as NativeWork;
const failed = { state: "FAILED", failureText: "it broke" } as NativeGroup;
const failure = ownFailure;

describe("an op that the library refused", () => {
  const refused = failure(Status.INVALID, "sizes do not fit");

  test.each(["now", "afterConsulting"] as const)(
    "%s: is not a failure of the group, and no rank is notified",
    async (way) => {
      const { store, failures } = setup();
      expect(await failures[way](refused, workOf(OpType.GATHER, 3))).toMatchObject({
        name: "InvalidArgumentError",
        message: 'gather #3 on group "7" (native, rank 0 of 1): sizes do not fit',
      });
      await Bun.sleep(5);
      expect(await store.listKeys()).toEqual([]);
    },
  );

  test("is not what later ops name as the cause", async () => {
    const { store, failures } = setup();
    failures.now(refused, workOf(OpType.GATHER, 3));
    const lost = await failures.afterConsulting(failure(Status.NETWORK, "rank 1 left"), workOf(OpType.BARRIER, 4));
    expect(lost).toMatchObject({ code: "PEER_LOST" });
    expect(await store.listKeys()).toContain("failure/first");
    const later = failures.refusal(OpType.REDUCE, failed, undefined);
    expect(later).toMatchObject({ code: "GROUP_FAILED", cause: lost });
    expect(later.message).toContain('group "7" has failed before (barrier #4 on group "7"');
  });
});

test("an op on a group that is closed, or failed before any op reported why", () => {
  const { failures } = setup();
  expect(failures.refusal(OpType.REDUCE, undefined, undefined)).toMatchObject({ code: "GROUP_CLOSED" });
  expect(failures.refusal(OpType.REDUCE, failed, undefined).message).toContain("has failed before (it broke)");
});

test("an op that failed with its device has the code of tensors' errors", async () => {
  const text = "cuEventQuery: CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered";
  const { failures } = setup();
  const lost = failures.now({ ...failure(Status.BACKEND, text), deviceError: 700 }, workOf(OpType.ALLREDUCE, 3));
  expect(lost).toMatchObject({ name: "CudaError", code: "CUDA_CONTEXT_LOST" });
  expect(lost.message).toContain(`${text}. Work on the device failed`);
  expect(lost.message).toContain("start the process again");
  const other = failures.now({ ...failure(Status.BACKEND, text), deviceError: 1 }, workOf(OpType.ALLREDUCE, 4));
  expect(other).toMatchObject({ name: "CudaError", code: "CUDA_ERROR" });
});

test("an op that failed for a lack of resources names the resource", async () => {
  const { failures } = setup();
  const text = "UCC failed: mmap: Cannot allocate memory";
  for (const way of ["now", "afterConsulting"] as const) {
    const lacking = { ...failure(Status.BACKEND, text), systemError: constants.errno.ENOMEM };
    const error = await failures[way](lacking, workOf(OpType.ALLREDUCE, 3));
    expect(error).toMatchObject({ name: "DistBackendError", code: "OUT_OF_MEMORY" });
    expect(error.message).toContain(`${text}: there is no memory left for this process: `);
  }
  const creation = { ...failure(Status.BACKEND, "UCX needs 32"), systemError: constants.errno.EMFILE };
  expect(await failures.ofCreation(creation, { reportsMs: 100, storeMs: 100 })).toMatchObject({
    code: "OUT_OF_DESCRIPTORS",
  });
  const threads = { ...failure(Status.BACKEND, "cannot start a thread"), systemError: constants.errno.EAGAIN };
  expect(await failures.ofCreation(threads, { reportsMs: 100, storeMs: 100 })).toMatchObject({
    code: "OUT_OF_PROCESSES",
  });
});

test("the wording of a text decides nothing", async () => {
  const { failures } = setup();
  const text =
    "Too many open files; Ranks 1, 3 failed to pass monitoredBarrier; it sent 1 bytes where this rank expects 2";
  for (const way of ["now", "afterConsulting"] as const) {
    const error = await failures[way](failure(Status.BACKEND, text), workOf(OpType.BARRIER, 3));
    expect(error).toMatchObject({ name: "DistBackendError", code: "BACKEND_ERROR", details: { peers: [] } });
  }
});

test("a time-out whose culprits the library knows names all of them, and only them", async () => {
  const { failures } = setup(4);
  const late: NativeFailure = { ...failure(Status.OP_TIMEOUT, "two are missing"), peer: 1, ranks: [1, 3] };
  for (const way of ["now", "afterConsulting"] as const) {
    const error = await failures[way](late, workOf(OpType.BARRIER, 3));
    expect(error).toMatchObject({ code: "OP_TIMEOUT", details: { peers: [1, 3] } });
  }
});

test("a rank that blocked, and named whose connection broke, blames no rank once the ranks agree that calls differ", async () => {
  const { store, failures } = setup(3);
  const text = "rank 0 called allToAll(float32) as collective #3, rank 1 called allToAll(float32), but ...";
  const report = { rank: 1, op: "allToAll", seq: 3, called: 3, kind: "desync", text, peer: 0, ranks: [0, 1] };
  await store.multiSet(["failure/1", "failure/first"], [JSON.stringify(report), JSON.stringify(report)]);
  const lost = { ...failure(Status.NETWORK, "rank 1 left"), peer: 1 };
  expect(failures.now(lost, workOf(OpType.ALLTOALL, 3))).toMatchObject({ code: "PEER_LOST", details: { peers: [1] } });
  await failures.afterConsulting(lost, workOf(OpType.ALLTOALL, 4));
  const later = failures.refusal(OpType.REDUCE, failed, undefined);
  expect([later.code, later.details.peers]).toEqual(["GROUP_FAILED", undefined]);
  expect(later.message).toContain(`; the ranks agree on the cause: ${text}`);
});

test("different calls: a rank whose connection broke because of it names them too, and no rank is blamed", async () => {
  const { store, failures } = setup(2);
  const text = "rank 0 called allReduce(float32[4], SUM), rank 1 allReduce(float32[4], MAX)";
  const report = { rank: 1, op: "allReduce", seq: 3, called: 3, kind: "desync", text, peer: 0, ranks: [0, 1] };
  await store.multiSet(["failure/1", "failure/first"], [JSON.stringify(report), JSON.stringify(report)]);
  const lost = await failures.afterConsulting(
    { ...failure(Status.NETWORK, "rank 1 left"), peer: 1 },
    workOf(OpType.ALLREDUCE, 3),
  );
  expect(lost).toMatchObject({ name: "DistBackendError", code: "DESYNC", details: { peers: [] } });
  expect(lost.message).toContain(text);
});

describe("different calls of which this rank saw another pair than the ranks agree on", () => {
  const own = {
    ...failure(Status.DESYNC, "rank 0 called barrier() as collective #3, rank 1 called ..."),
    ranks: [0, 1],
  };
  const other = "rank 1 called allReduce(float32[4], SUM) as collective #3, rank 2 called barrier()";

  test("a rank that blocked names the agreed two, and no others, in what it awaits later and in refusals", async () => {
    const { store, failures } = setup(3);
    await agree(store, [], reportOf(2, "desync", other, { ranks: [1, 2] }));
    expect(failures.now(own, workOf(OpType.BARRIER, 3)).message).toContain(own.text);
    const awaited = await failures.afterConsulting(own, workOf(OpType.BARRIER, 4));
    expect(awaited).toMatchObject({ code: "DESYNC", details: { peers: [] } });
    const later = failures.refusal(OpType.REDUCE, failed, undefined);
    expect(later.message).toContain(
      `has failed before (barrier #3 on group "7" (native, rank 0 of 3): ${other}). It takes`,
    );
    for (const { message } of [awaited, later])
      expect([message.includes(other), message.includes(own.text)]).toEqual([true, false]);
  });

  test("so does the rank whose own report the others adopted, for an op that failed with two others", async () => {
    const { store, failures } = setup(3, 2);
    await agree(store, [], reportOf(2, "desync", other, { ranks: [1, 2] }));
    failures.now({ ...own, text: other }, workOf(OpType.BARRIER, 3));
    const awaited = await failures.afterConsulting(own, workOf(OpType.BARRIER, 4));
    expect([awaited.message.includes(other), awaited.message.includes(own.text)]).toEqual([true, false]);
  });
});

/** Stores the verdict that the ranks reached before this one asks. */
async function agree(store: HashStore, culprits: readonly number[], ...reports: readonly object[]): Promise<void> {
  const [cause] = reports;
  await store.set("failure/verdict", JSON.stringify({ culprits, cause, reports }));
}

const reportOf = (rank: number, kind: string, text: string, more: object = {}) => {
  return { rank, op: "allReduce", seq: 3, called: 3, kind, text, peer: -1, ranks: [], ...more };
};

test("two ranks that receive from each other: both are named, neither is blamed, and later ops say it too", async () => {
  const { store, failures } = setup(2);
  const [a, b] = [0, 1].map((rank) =>
    reportOf(rank, "timeout", `timed out of waiting for rank ${1 - rank}`, {
      op: "recv",
      seq: 1,
      called: 0,
      peer: 1 - rank,
    }),
  );
  await agree(store, [], b as object, a as object);
  const late = { ...failure(Status.OP_TIMEOUT, "timed out after 1000 ms of waiting for rank 1"), peer: 1 };
  const error = await failures.afterConsulting(late, workOf(OpType.RECV, 1));
  const text = "ranks 0 and 1 waited for each other, at recv #1 and recv #1";
  expect(error).toMatchObject({
    code: "OP_TIMEOUT",
    details: { peers: [] },
    message: `recv #1 on group "7" (native, rank 0 of 2): timed out after 1000 ms of waiting for rank 1; ${text}`,
  });
  const later = failures.refusal(OpType.REDUCE, failed, undefined);
  expect([later.details.peers, later.message.split(text).length]).toEqual([undefined, 2]);
});

describe("a time-out that was spent waiting for another victim", () => {
  const late = { ...failure(Status.OP_TIMEOUT, "timed out after 1000 ms of waiting for rank 2"), peer: 2 };
  const own = reportOf(0, "timeout", late.text, { peer: 2 });
  const endOf = async (culprits: readonly number[], ...others: readonly object[]) => {
    const { store, failures } = setup(3);
    await agree(store, culprits, own, ...others);
    const { message, details } = await failures.afterConsulting(late, workOf(OpType.ALLREDUCE, 3));
    expect(details.peers).toEqual(culprits);
    return message.split("of waiting for ")[1];
  };
  const waited = reportOf(2, "timeout", "timed out after 1000 ms of waiting for rank 1", { peer: 1 });

  test("does not count that one as missing", async () => {
    expect(await endOf([1], waited)).toBe("rank 2, which waited as well; rank 1 did not arrive");
    expect(await endOf([2])).toBe("rank 2; rank 2 did not arrive");
  });

  test("does not say so of one that has not called the op either", async () => {
    const absent = reportOf(2, "lost", "rank 0 left", { op: "recv", seq: 9, called: 2, peer: 1 });
    const other = reportOf(1, "lost", "rank 0 left", { op: "recv", seq: 9, called: 2, peer: 0 });
    expect(await endOf([1], absent, other)).toBe("rank 2; rank 1 was at recv #9");
  });

  test("says so, too, if the culprit has reported", async () => {
    const behind = reportOf(1, "timeout", "timed out", { seq: 2, called: 2, peer: 0 });
    expect(await endOf([1], waited, behind)).toBe("rank 2, which waited as well; rank 1 was only at allReduce #2");
    const there = reportOf(1, "lost", "rank 0 left", { peer: 0 });
    expect(await endOf([1], waited, there)).toBe(
      "rank 2, which waited as well; the ranks agree on rank 1 as the cause",
    );
  });
});

test("a message whose peer waits in a collective that this rank has not called: each rank says so of itself", async () => {
  const text = "timed out after 1000 ms of waiting for rank 0";
  const sent = reportOf(1, "timeout", text, { op: "send", seq: 1, called: 2, peer: 0 });
  const waited = reportOf(0, "lost", "rank 1 left", { peer: 1 });
  const endOf = async (rank: number, seen: NativeFailure) => {
    const { store, failures } = setup(3, rank);
    await agree(store, [1], sent, waited);
    const { message, details } = await failures.afterConsulting(
      seen,
      workOf(rank === 1 ? OpType.SEND : OpType.ALLREDUCE, 3),
    );
    expect(details.peers).toEqual([1]);
    return message.split("): ")[1];
  };
  const late = { ...failure(Status.OP_TIMEOUT, text), peer: 0 };
  const lost = { ...failure(Status.NETWORK, "rank 1 left"), peer: 1 };
  expect(await endOf(1, late)).toBe(`${text}; rank 0 was at allReduce #3, which this rank has not called`);
  expect(await endOf(0, lost)).toBe(`rank 1: ${text}; this rank was at allReduce #3, which rank 1 has not called`);
  expect(await endOf(2, lost)).toBe(`rank 1: ${text}; rank 0 was at allReduce #3, which rank 1 has not called`);
});

test("a message whose peer waits in a collective, as does a rank that has not reported: that one is not said to be elsewhere", async () => {
  const text = "timed out after 1000 ms of waiting for rank 0";
  const sent = reportOf(1, "timeout", text, { op: "send", seq: 1, called: 2, peer: 0 });
  const { store, failures } = setup(3, 1);
  await agree(store, [2], sent, reportOf(0, "lost", "rank 1 left", { peer: 2 }));
  const late = { ...failure(Status.OP_TIMEOUT, text), peer: 0 };
  const { message } = await failures.afterConsulting(late, workOf(OpType.SEND, 1));
  expect(message).toEndWith(`${text}, which waited as well; rank 2 did not arrive`);
});

test("a rank that comes when the others have given up is named as this rank", async () => {
  const { store, failures } = setup(4, 1);
  await agree(store, [1, 2], reportOf(0, "timeout", "timed out after 1000 ms of waiting for rank 1", { peer: 1 }));
  const lost = { ...failure(Status.NETWORK, "rank 0 left"), peer: 0 };
  expect((await failures.afterConsulting(lost, workOf(OpType.ALLREDUCE, 3))).message).toEndWith(
    "; this rank and rank 2 did not arrive",
  );
});

test("a rank that is behind is named as this rank in its own error", async () => {
  const { store, failures } = setup(2);
  const behind = reportOf(0, "lost", "rank 1 left", { seq: 2, called: 2, peer: 1 });
  await agree(store, [0], reportOf(1, "timeout", "timed out after 1000 ms", { peer: 0 }), behind);
  const lost = { ...failure(Status.NETWORK, "rank 1 left"), peer: 1 };
  expect((await failures.afterConsulting(lost, workOf(OpType.ALLREDUCE, 2))).message).toEndWith(
    "rank 1: timed out after 1000 ms; this rank was only at allReduce #2",
  );
});

test("if several ranks aborted, the reasons of all are reported", async () => {
  const reports = [reportOf(1, "aborted", "no quorum"), reportOf(0, "aborted", "shutting down")];
  for (const [status, text, expected] of [
    [Status.ABORTED, "shutting down", "shutting down; rank 1 also aborted: no quorum"],
    [Status.NETWORK, "rank 1 left", "rank 1: no quorum; rank 0 also aborted: shutting down"],
  ] as const) {
    const { store, failures } = setup(3, status === Status.NETWORK ? 2 : 0);
    await agree(store, [0, 1], ...reports);
    const error = await failures.afterConsulting(failure(status, text), workOf(OpType.ALLREDUCE, 3));
    expect([error.details.peers, error.message.split("): ")[1]]).toEqual([[0, 1], expected]);
  }
});

describe("a group that is not made", () => {
  const nameOf = (rank: number): string => `group "7" (native, rank ${rank} of 4): `;

  /** The errors of ranks of a group of four that fail like this, in this order. */
  function creations(...failed: readonly (readonly [rank: number, NativeFailure])[]) {
    const store = new HashStore();
    const ends = failed.map(([rank, failure]) => {
      const context = { store, rank, size: 4, groupName: "7", timeoutMs: 1_000 } as unknown as BackendContext;
      return new NativeFailures("native", context).ofCreation(failure, { reportsMs: 200, storeMs: 200 });
    });
    return Promise.all(ends);
  }
  const lost = (peer: number, text: string) => ({ ...failure(Status.NETWORK, text), peer });
  const late = (peer: number, text: string) => ({ ...failure(Status.OP_TIMEOUT, text), peer, ranks: [peer] });

  test("because one did not arrive: all name it, even those that only know that another one gave up", async () => {
    const [first, second, third] = await creations(
      [0, late(2, "rank 2 has not come")],
      [1, lost(0, "rank 0 closed its connection")],
      [3, lost(-1, "rank 0 has given up making the group")],
    );
    const expected = { name: "DistTimeoutError", code: "CONNECT_TIMEOUT", details: { peers: [2], timeoutMs: 1_000 } };
    for (const error of [first, second, third]) expect(error).toMatchObject(expected);
    expect(first?.message).toStartWith(`${nameOf(0)}rank 2 has not come. Do all its ranks make this group`);
    expect(third?.message).toStartWith(`${nameOf(3)}rank 0 has given up making the group: rank 2 has not come. Do all`);
  });

  test("because some are late: their errors say so, and none of them blames another one", async () => {
    const missing = { ...failure(Status.OP_TIMEOUT, "ranks 1 and 2 have not come"), peer: 1, ranks: [1, 2] };
    const [early, ...others] = await creations(
      [0, missing],
      [1, lost(-1, "rank 0 has given up making the group")],
      [2, lost(0, "rank 0 closed its connection")],
    );
    expect(early).toMatchObject({ code: "CONNECT_TIMEOUT", details: { peers: [1, 2] } });
    for (const error of others) {
      expect(error.code).toBe("CONNECT_TIMEOUT");
      expect(error.details.peers).toBeUndefined();
      expect(error.message).toContain("rank 0 has given up making the group: ranks 1 and 2 have not come");
    }
  });

  test("because one died: a rank that blames one that gave up is corrected", async () => {
    const errors = await creations(
      [1, lost(0, "rank 0 closed its connection")],
      [0, lost(2, "rank 2 has gone")],
      [3, lost(2, "rank 2 has gone")],
    );
    for (const error of errors) {
      expect(error).toMatchObject({ name: "DistNetworkError", code: "PEER_LOST", details: { peers: [2] } });
      expect(error.message).toEndWith("rank 2 has gone");
    }
  });

  test("because of an error of one: the others report it", async () => {
    const lacking = { ...failure(Status.BACKEND, "UCX needs 32"), systemError: constants.errno.EMFILE };
    const [own, ...others] = await creations(
      [1, lacking],
      [0, lost(1, "rank 1 has gone")],
      [2, lost(-1, "rank 1 has given up making the group")],
      [3, lost(0, "rank 0 has gone")],
    );
    expect(own).toMatchObject({ code: "OUT_OF_DESCRIPTORS" });
    expect(own?.details.peers).toBeUndefined();
    for (const error of others) {
      expect(error).toMatchObject({ code: "PEER_LOST", details: { peers: [1] } });
      expect(error.message).toEndWith(": rank 1 has given up making the group: UCX needs 32");
    }
  });

  test("because it failed on a rank that had it: that reason", async () => {
    const { store, failures } = setup(4);
    const calls = { ...failure(Status.DESYNC, "rank 0 called this, rank 1 that"), ranks: [0, 1] };
    await failures.afterConsulting(calls, workOf(OpType.ALLREDUCE, 1));
    const context = { store, rank: 2, size: 4, groupName: "7", timeoutMs: 1_000 } as unknown as BackendContext;
    const error = await new NativeFailures("native", context).ofCreation(lost(0, "rank 0 left"), {
      reportsMs: 200,
      storeMs: 200,
    });
    expect(error).toMatchObject({ name: "DistBackendError", code: "DESYNC" });
    expect(error.message).toBe(`${nameOf(2)}rank 0 called this, rank 1 that`);
    expect(error.details.peers).toBeUndefined();
  });
});
