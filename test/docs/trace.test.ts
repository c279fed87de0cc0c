import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { describeGloo } from "../../src/backends/gloo/fixtures/availability.ts";
import { MadeJob } from "../../src/trace/fixtures/made-job.ts";
import { analyse, kinetoTrace, reportJson } from "../../src/trace/index.ts";
import { files, page } from "./code/trace.ts";
import { CodeFolder, root } from "./code-folder.ts";

setDefaultTimeout(60_000);

// Runs the job of docs/trace.md, and compares the page with what is printed.

function desync(): MadeJob {
  const job = new MadeJob(4);
  job.all();
  job.all({ state: "scheduled", reduceOp: "SUM", inputs: [[128, 1024]] }, [0, 1, 3]);
  job.rank(2).call({ name: "broadcast", root: 2, state: "failed", error: "DESYNC", line: "load.ts:8" });
  return job;
}

describeGloo("the reports", () => {
  let folder: CodeFolder;
  beforeAll(() => {
    folder = new CodeFolder("trace", files);
  });
  afterAll(() => folder[Symbol.dispose]());
  const c10d = (...args: readonly string[]) => folder.run([join(root, "src/cli/main.ts"), ...args]);

  const shown = Array.from(
    page.matchAll(/c10d run -n 4 train.ts *(\w*)\n\$ c10d trace \/tmp\/dumps\n([\s\S]*?)^```/gm),
  );
  test.each(shown.map(([, how = "", text = ""]) => [how, text] as const))("of the job: %s", async (how, text) => {
    const dumps = join(folder.path, `dumps-${how}`);
    const run = [join(root, "src/cli/main.ts"), "run", "-n", "4", "train.ts", ...(how === "" ? [] : [how])];
    expect((await folder.run(run, { C10D_TRACE_DIR: dumps })).exitCode).toBe(0);
    const { stdout } = await c10d("trace", dumps);
    expect(comparable(stdout)).toBe(comparable(text));
  });
  expect(shown).toHaveLength(2);

  test("of running ranks, whose dumps their servers answer with", async () => {
    expect(page).toContain("/handler/fr_trace_json > /tmp/dumps/rank_0.json");
    expect(page).toContain("/handler/dump_nccl_trace_pickle > /tmp/dumps/rank_1.pickle");
    folder.write(
      "running.ts",
      `import * as dist from "bun-c10d";
      const group = await dist.initProcessGroup({ backend: "gloo" });
      const { url } = await dist.startDebugServer();
      if (group.rank === 0) dist.allReduce(new Float32Array(4)).catch(() => {});
      const dumps = ["running/rank_0.json", "running/rank_1.pickle"];
      const written = async (dump) => { while (!(await Bun.file(dump).exists())) await Bun.sleep(10); };
      if (group.rank === 1) await written(dumps[0]);
      const handler = group.rank === 0 ? "fr_trace_json" : "dump_nccl_trace_pickle";
      const answer = await fetch(\`\${url}/handler/\${handler}\`, { method: "POST" });
      await Bun.write(dumps[group.rank], await answer.bytes());
      await written(dumps[1]);
      process.exit(0);`,
    );
    expect(await folder.runRanks("running.ts")).toMatchObject({ exitCode: 0 });
    const { stdout } = await c10d("trace", join(folder.path, "running"));
    expect(stdout.replaceAll(/\s+/g, " ")).toMatch(
      /all_reduce #1 is in flight; rank 0 has waited in it for .* \(running\.ts:4\); rank 1 has not called it yet\./,
    );
  });
});

/** Without what differs from run to run, and the words of errors. */
function comparable(text: string): string {
  return text
    .replaceAll(/\s+/g, " ")
    .replaceAll(/\b[\d.]+ m?s\b/g, "1 s")
    .replaceAll(/\S*\/train\.ts/g, "train.ts")
    .replaceAll(/allReduce #2 on group "0".*?(?= Rank 2's last op| group 0 \(default_pg\), #2)/g, "…")
    .trim();
}

test("the fields of JSON, and the kinds of findings", () => {
  const [, fields = ""] = page.split("## JSON");
  const value = reportJson(analyse(desync().traces())) as Record<string, readonly object[]>;
  const names = [
    ...Object.keys(value),
    "unreadable",
    "superseded",
    "ofOtherJobs",
    ...["findings", "groups", "ranks"].flatMap((key) => Object.keys(value[key]?.[0] ?? {})),
  ];
  expect(names.filter((name) => !fields.includes(`\`${name}\``))).toEqual([]);
  const kinds = Array.from(
    page.matchAll(/^\| `(\w+)` \| (?:the ranks|ranks wait|a send|all ranks|an op)/gm),
    ([, kind]) => kind,
  );
  expect(kinds).toEqual(["mismatch", "missing", "absent", "message", "stuck", "failed"]);
});

test("the arguments of events", () => {
  const job = desync();
  job.rank(0).call({ name: "send", peer: 1, at: 9000 });
  const { traceEvents } = kinetoTrace(analyse(job.traces()).job, [0, 1, 2, 3]);
  const names = new Set(traceEvents.filter(({ ph }) => ph === "X").flatMap(({ args }) => Object.keys(args)));
  const [, section = ""] = page.split("## Timeline");
  // They are not recorded, but HTA expects them.
  const empty = ["In split size", "Out split size"];
  expect([...names].filter((name) => !empty.includes(name) && !section.includes(`\`${name}\``))).toEqual([]);
});
