import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { MadeJob } from "../../src/trace/fixtures/made-job.ts";
import { analyse, kinetoTrace, report, reportJson } from "../../src/trace/index.ts";
import { root } from "./code-folder.ts";

// Compares docs/trace.md with what is printed.

const page = readFileSync(join(root, "docs/trace.md"), "utf8");

function hang(): MadeJob {
  const job = new MadeJob(4);
  job.all({ name: "broadcast", line: "load.ts:8", root: 0 });
  job.all({ state: "scheduled", at: 47_700 }, [0, 1, 3]);
  return job;
}

function desync(): MadeJob {
  const job = new MadeJob(4);
  job.all();
  job.all({ state: "scheduled", reduceOp: "SUM", inputs: [[128, 1024]] }, [0, 1, 3]);
  job.rank(2).call({ name: "broadcast", root: 2, state: "failed", error: "DESYNC", line: "load.ts:8" });
  return job;
}

test("the reports", () => {
  const [first, second] = Array.from(
    page.matchAll(/^```console\n\$ c10d trace \/tmp\/dumps\n([\s\S]*?)^```/gm),
    ([, text]) => text,
  );
  expect(first).toBe(`${report(analyse(hang().traces()))}\n`);
  expect(report(analyse(desync().traces()))).toStartWith(second?.trimEnd() ?? "nothing");
});

test("the fields of JSON, and the kinds of findings", () => {
  const [, fields = ""] = page.split("## JSON");
  const value = reportJson(analyse(desync().traces())) as Record<string, readonly object[]>;
  const names = [
    ...Object.keys(value),
    "unreadable",
    "superseded",
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
