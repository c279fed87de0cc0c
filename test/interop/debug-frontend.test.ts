import { expect, setDefaultTimeout, test } from "bun:test";
import { FrontendJob } from "./debug-frontend.ts";
import { describeWithTorch214, fixture } from "./torch.ts";

setDefaultTimeout(120_000);

const bunRank = [process.execPath, fixture("debug-rank.ts")];
/** An address as ranks of this package announce it. */
const bunAddress = /^http:\/\/127\.0\.0\.1:\d+\/[\w-]{32}\/handler\//;

describeWithTorch214("PyTorch's debug front end", (python) => {
  test("shows two Bun ranks beside a Python rank on each of its pages", async () => {
    await using job = await FrontendJob.start(3);
    job.run(0, [python, fixture("debug_rank.py")]);
    job.run(1, bunRank);
    job.run(2, bunRank);
    for (const rank of [1, 2]) await job.file(`ready${rank}`);

    // Rank 1 needs some time to block; meanwhile its event loop answers.
    let stacks = await job.page("/stacks");
    for (let i = 0; i < 50 && !stacks.of(1).includes("blocked"); i++) stacks = await job.page("/stacks");
    expect(stacks.of(0)).toContain('debug_rank.py", line');
    for (const rank of [1, 2]) expect(stacks.of(rank)).toMatch(bunAddress);
    expect(stacks.of(1)).toMatch(/debug-rank\.ts", line \d+ in stepTwo/);
    expect(stacks.of(1)).toContain("allReduce #");
    expect(stacks.of(2)).toContain("in the event loop");
    expect(stacks.of(2)).toMatch(/allReduce #\d+ of group 0 \(default_pg\), rank 2 of \[0, 1, 2\]/);

    const native = await job.page("/pyspy_dump");
    for (const rank of [1, 2]) expect(native.of(rank)).toContain("this rank is Bun: see dump_traceback");

    const counters = await job.page("/wait_counters");
    const own = "bun_c10d.wait_counter.Work__wait.allReduce";
    expect(counters.json(1)).toHaveProperty([own, "active_count"], 1);
    for (const rank of [0, 1, 2]) {
      expect(counters.json(rank)).toHaveProperty(["pytorch.wait_counter.c10d.init_process_group", "total_calls"], 1);
    }

    const store = await job.page("/tcpstore");
    for (const rank of [0, 1, 2]) expect(store.text).toContain(`debug_server/rank${rank}: b'http://`);

    const profile = await job.page("/profile?duration=0.2");
    for (const rank of [1, 2]) {
      expect(profile.of(rank)).toContain(`<button onclick="run${rank}()">`);
      expect(profile.of(rank)).toContain('"name":"allReduce"');
    }

    for (const path of ["/fr_trace_json", "/fr_trace_nccl_json"]) {
      const json = await job.page(path);
      for (const rank of [1, 2]) {
        expect(json.json(rank)).toMatchObject({ version: "2.10" });
        const { entries } = json.json(rank) as { entries: { profiling_name: string; collective_seq_id: number }[] };
        expect(entries.map(({ profiling_name }) => profiling_name)).toContain("gloo:all_reduce");
      }
      expect(json.json(0)).toMatchObject({ version: "2.10" });
    }
    // Ops that have not ended: who is missing, and where the others are.
    const pending = await job.page("/fr_trace_nccl");
    expect(pending.table("Groups")).toMatchObject([{ desc: "default_pg", size: "3" }]);
    expect(pending.table("Memberships").map(({ global_rank }) => global_rank)).toEqual(["0", "1", "2"]);
    const [late, ...others] = pending.table("Collectives");
    expect(others).toEqual([]);
    expect(late).toMatchObject({ collective_name: "gloo:all_reduce", input_sizes: "[[4]]", missing_ranks: "{0}" });
    expect(late?.collective_frames).toContain("debug-rank.ts");
    expect(pending.table("NCCL Calls").map(({ global_rank }) => global_rank)).toEqual(["1", "2"]);
    // Python's own dumps of Gloo groups name no group, which PyTorch's page does not expect, with or without Bun ranks.
    const whole = await job.page("/fr_trace");
    expect([whole.status, whole.text]).toEqual([500, expect.stringContaining("KeyError(('0', 0))")]);

    // What belongs to torchcomms, neither kind of rank has.
    const comms = await job.page("/torchcomms_health_check");
    for (const rank of [0, 1, 2]) {
      expect(comms.of(rank)).toContain("Failed to find handler torchcomms_health_check");
    }

    await job.tell("go-on");
    expect(JSON.parse(await job.file("rank0"))).toEqual([9, 9, 9, 9]);
    for (const rank of [1, 2]) expect(JSON.parse(await job.file(`rank${rank}`))).toEqual([9, 9, 9, 9]);
  });

  test("started alone, shows a job of Bun ranks", async () => {
    await using job = await FrontendJob.start(2);
    job.run(0, bunRank);
    job.run(1, bunRank);
    for (const rank of [0, 1]) await job.file(`ready${rank}`);
    job.run(0, [python, fixture("debug_frontend.py")]);
    const stacks = await job.page("/stacks");
    for (const rank of [0, 1]) expect(stacks.of(rank)).toMatch(bunAddress);
    const trace = await job.page("/fr_trace");
    expect(trace.table("Collectives")).toMatchObject([
      { collective_name: "gloo:all_reduce", collective_state: "completed", pass_check: "True", missing_ranks: "" },
    ]);
    await job.tell("go-on");
    for (const rank of [0, 1]) expect(JSON.parse(await job.file(`rank${rank}`))).toEqual([4, 4, 4, 4]);
    // Ranks that have left are reported, not waited for.
    const after = await job.page("/stacks");
    for (const rank of [0, 1]) expect(after.of(rank)).toContain("Failed to fetch: status=503");
  });
});
