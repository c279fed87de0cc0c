import { describe, expect, test } from "bun:test";
import { MadeJob } from "../fixtures/made-job.ts";
import { analyse } from "./analysis.ts";

describe("the making of groups", () => {
  test("names the ranks that have not called it, and what they do", () => {
    const job = new MadeJob(3);
    job.all();
    for (const rank of [0, 1]) job.rank(rank).groupCall({ state: "started", at: 40_000 });
    const { findings, inFlight } = analyse(job.traces());
    expect(findings).toMatchObject([{ kind: "missing", ranks: [2], group: { uid: "1", ranks: [0, 1, 2] } }]);
    expect(findings[0]?.text).toBe(
      "group 1: rank 2 has not called newGroup; ranks 0, 1 have waited in newGroup for 20 s (groups.ts:3). " +
        "Rank 2's last op: all_reduce #1 of group 0 (default_pg), completed 1 min 0 s ago (train.ts:41).",
    );
    expect(inFlight).toEqual([]);
  });

  test("is only in flight while it is young, unless the group has failed or its rank is ended", () => {
    const job = new MadeJob(2);
    job.rank(0).groupCall({ state: "started", at: 59_000 });
    expect(analyse(job.traces())).toMatchObject({
      findings: [],
      inFlight: ["group 1: rank 0 has waited in newGroup for 1 s (groups.ts:3)."],
    });
    job.rank(0).isFailure = true;
    expect(analyse(job.traces()).findings).toMatchObject([{ kind: "missing", ranks: [1] }]);
  });

  test("names ranks without a dump, beside those that have one", () => {
    const job = new MadeJob(4);
    job.all();
    const error = "group 1: ranks 1 and 2 did not join the group";
    for (const rank of [0, 3]) job.rank(rank).groupCall({ state: "failed", error, ms: 2000 });
    const traces = job.traces().filter(({ rank }) => rank !== 1);
    const { findings, absent } = analyse(traces);
    expect(findings).toMatchObject([{ kind: "missing", ranks: [1, 2] }]);
    expect(findings[0]?.text).toStartWith(
      "group 1: rank 2 has not called newGroup, and rank 1 left no dump and may not have called it; newGroup failed " +
        `after 2 s on ranks 0, 3 (groups.ts:3): ${error}. Rank 2's last op`,
    );
    expect(absent).toEqual([1]);
  });

  test("does not name those that are not members, nor PyTorch's ranks, which do not record it", () => {
    const job = new MadeJob(4);
    job.all();
    job.rank(1).writer = "pytorch";
    for (const rank of [0, 2]) job.rank(rank).groupCall({ state: "started", ranks: [0, 1, 2], at: 10_000 });
    expect(analyse(job.traces()).findings).toEqual([]);
    expect(analyse(job.traces()).inFlight).toEqual([
      "group 1: ranks 0, 2 have waited in newGroup for 50 s (groups.ts:3).",
    ]);
  });

  test("that failed and was tried again is judged by the last try", () => {
    const job = new MadeJob(2);
    for (const { rank } of job.ranks) {
      job.rank(rank).groupCall({ name: "initProcessGroup", group: "0", state: "failed", error: "no route" });
      job.rank(rank).groupCall({ name: "initProcessGroup", group: "0" });
    }
    job.all();
    expect(analyse(job.traces())).toMatchObject({ findings: [], inFlight: [] });
  });

  test("a failure for which no rank is missing", () => {
    const job = new MadeJob(2);
    job.all();
    for (const { rank } of job.ranks) job.rank(rank).groupCall({ state: "failed", error: "no luck" });
    expect(analyse(job.traces()).findings).toMatchObject([
      {
        kind: "failed",
        ranks: [0, 1],
        text: "group 1: newGroup failed after 1 ms on ranks 0, 1 (groups.ts:3): no luck.",
      },
    ]);
  });

  test("a group that is closed is explained by the ops that it waits for", () => {
    const job = new MadeJob(2);
    job.all();
    job.rank(0).groupCall({ name: "close", group: "0", state: "started", at: 59_000 });
    job.rank(0).isFailure = true;
    const closing = "group 0 (default_pg): rank 0 has been closing it for 1 s (groups.ts:3).";
    expect(analyse(job.traces()).findings).toMatchObject([{ kind: "stuck", text: closing }]);
    job.rank(0).call({ state: "started", at: 58_000 });
    const { findings, inFlight } = analyse(job.traces());
    expect(findings).toMatchObject([{ kind: "missing", ranks: [1] }]);
    expect(inFlight).toEqual([closing]);
  });
});

describe("dumps of a job that has failed or is ended", () => {
  const failed = (job: MadeJob): MadeJob => {
    for (const { rank } of job.ranks) job.rank(rank).isFailure = true;
    return job;
  };

  test("what all ranks have called and is in flight hangs, whatever its age", () => {
    const job = new MadeJob(2);
    job.all({ state: "started", at: 59_900 });
    expect(analyse(job.traces()).findings).toEqual([]);
    expect(analyse(failed(job).traces()).findings).toMatchObject([{ kind: "stuck", ranks: [0, 1] }]);
  });

  test("unless another rank's dump, which was made later, has its end", () => {
    const job = failed(new MadeJob(2));
    job.rank(0).call({ state: "started", at: 59_900 });
    job.rank(1).call({ at: 59_900 });
    expect(analyse(job.traces()).findings).toEqual([]);
  });

  test("unless the rank that has not called it is about to: others have completed what it is in", () => {
    const job = failed(new MadeJob(2));
    job.rank(0).call({ at: 59_000 });
    job.rank(1).call({ state: "started", at: 59_000 });
    job.rank(0).call({ state: "started", at: 59_800 });
    expect(analyse(job.traces()).findings).toEqual([]);
    const hung = failed(new MadeJob(2));
    hung.rank(0).call({ at: 1000 });
    hung.rank(1).call({ state: "started", at: 1000 });
    hung.rank(0).call({ state: "started", at: 1100 });
    expect(analyse(hung.traces()).findings).toMatchObject([{ kind: "missing", ranks: [1] }]);
  });

  test("what hangs elsewhere is listed beside its cause", () => {
    const job = failed(new MadeJob(3));
    job.group("1", "evens", [0, 2]);
    job.all({ group: "1", state: "started", at: 59_000 });
    job.all({ state: "started", at: 59_100 }, [0, 2]);
    const { findings, inFlight } = analyse(job.traces());
    expect(findings).toMatchObject([{ kind: "missing", ranks: [1] }]);
    expect(inFlight).toEqual([expect.stringContaining("group 1 (evens): all ranks have called all_reduce #1")]);
  });

  test.each(["send", "recv"])("a message that does not end: %s", (name) => {
    const job = new MadeJob(2);
    job.rank(0).call({ name: "send", peer: 1, state: name === "send" ? "started" : "completed", at: 59_000 });
    job.rank(1).call({ name: "recv", peer: 0, state: "started", at: 59_000 });
    expect(analyse(job.traces()).findings).toEqual([]);
    const { findings } = analyse(failed(job).traces());
    expect(findings.at(-1)).toMatchObject({ kind: "stuck", ranks: [1] });
    expect(findings.at(-1)?.text).toContain("on rank 1 recv from rank 0 has waited for 1 s");
  });
});

describe("many ops in flight are one sentence", () => {
  test("collectives", () => {
    const job = new MadeJob(2);
    for (let i = 0; i < 50; i++) job.rank(0).call({ state: "scheduled", at: 59_000 + i });
    expect(analyse(job.traces()).inFlight).toEqual([
      "group 0 (default_pg): all_reduce #1 is in flight; rank 0 has waited in it for 1 s (train.ts:41); rank 1 has " +
        "not called it yet; 49 later collectives are, too.",
    ]);
  });

  test("messages of a channel", () => {
    const job = new MadeJob(2);
    for (let i = 0; i < 3; i++) job.rank(0).call({ name: "recv", peer: 1, state: "started", at: 59_000 + i });
    const one = "group 0 (default_pg): on rank 0 recv from rank 1 has waited for";
    expect(analyse(job.traces()).inFlight).toEqual([`${one} 1 s (train.ts:41), and 2 more messages after it.`]);
    for (const { rank } of job.ranks) job.rank(rank).isFailure = true;
    expect(analyse(job.traces()).findings).toMatchObject([{ kind: "message", ranks: [1] }]);
  });
});

test("the numbers in the errors of a group that uses others in turn are not those of its ops", () => {
  const job = new MadeJob(2);
  job.all();
  const error =
    "rank 0 called allReduce(float32[4], SUM) as collective #1, rank 1 called broadcast(float32[4], root 0)";
  job.rank(0).call({ state: "failed", error });
  const seqs = () => analyse([job.rank(0).trace()]).findings.map(({ kind, seq }) => [kind, seq]);
  expect(seqs()).toEqual([["mismatch", 1]]);
  job.rank(0).countedGroups = ["0"];
  expect(seqs()).toEqual([["mismatch", 2]]);
});

describe("a rank without a dump for which others wait", () => {
  test("is named beside one that is late", () => {
    const job = new MadeJob(4);
    job.all();
    for (const rank of [0, 3]) job.rank(rank).call({ state: "failed", error: "rank 1 closed its connection" });
    const { findings } = analyse(job.traces().filter(({ rank }) => rank !== 1));
    expect(findings).toMatchObject([{ kind: "missing", ranks: [1, 2] }]);
    expect(findings[0]?.text).toContain(
      "rank 2 has not called all_reduce #2, and rank 1 left no dump and may not have called it; all_reduce #2 failed",
    );
  });

  test("also where the dump of the one that is late is too old to tell", () => {
    const job = new MadeJob(3);
    job.all();
    job.rank(2).dumpedAt = 1500;
    job.rank(0).call({ state: "started", at: 40_000 });
    expect(analyse(job.traces().filter(({ rank }) => rank !== 1)).findings).toMatchObject([
      { kind: "absent", ranks: [1] },
    ]);
  });

  test("is named for a message, too", () => {
    const job = new MadeJob(2);
    job.rank(0).call({ name: "recv", peer: 1, state: "failed", error: "rank 1 closed its connection" });
    expect(analyse(job.traces().filter(({ rank }) => rank !== 1)).findings).toMatchObject([
      { kind: "message", ranks: [1], text: expect.stringContaining("rank 1 left no dump") },
    ]);
  });
});
