import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import {
  BACKEND_MIDDLEWARE,
  CLOCK,
  createContainer,
  type DistError,
  initProcessGroup,
  type Middleware,
} from "../../src/index.ts";
import { localRanks, ManualClock } from "../../src/testing/index.ts";
import { files, page } from "./code/wrap-a-backend.ts";
import { CodeFolder, root } from "./code-folder.ts";

setDefaultTimeout(60_000);

// Runs the middleware of docs/wrap-a-backend.md in two ranks.

let folder: CodeFolder;
beforeAll(() => {
  folder = new CodeFolder("wrapping", files);
});
afterAll(() => folder[Symbol.dispose]());

test("every example has a name", () => {
  expect([...files.keys()]).toEqual(["metrics.ts", "train.ts", "halved.ts", "delayed.ts", "finite.ts"]);
  expect(page.match(/^```/gm)).toHaveLength(2 * files.size);
});

test("calls are changed, counted and timed", async () => {
  const train = files.get("train.ts") ?? "";
  const shown = `console.log([...totals].every(([, { ms }]) => ms > 0));\n`;
  folder.write("job.ts", train + shown);
  // Four elements of float32.
  const printed = "Float64Array(4) [ 1, 2, 4, 6 ] 16 1";
  const lines = [printed, printed, "true", "true"];
  expect(await folder.runRanks("job.ts")).toMatchObject({ exitCode: 0, stderr: "", lines });
});

test("middleware with its own Work changes how an op ends, with await and with wait()", async () => {
  folder.write(
    "overflow.ts",
    `import { BACKEND_MIDDLEWARE, createContainer, initProcessGroup } from "bun-c10d";
import { finite } from "./finite.ts";
const container = createContainer();
container.register(BACKEND_MIDDLEWARE, { useValue: finite });
await using group = await initProcessGroup({ backend: "gloo", timeout: "30s", container });
const ends = [];
for (const [of, blocks] of [[1, true], [1, false], [3e38, true], [3e38, false]] as const) {
  const work = group.allReduce(Float32Array.of(of));
  try {
    if (blocks) work.wait();
    ends.push((await work)[0]);
  } catch (error) {
    ends.push((error as Error).message);
  }
}
console.log(ends.join(", "));
`,
  );
  const line = "2, 2, the sum is not finite, the sum is not finite";
  expect(await folder.runRanks("overflow.ts")).toMatchObject({ exitCode: 0, stderr: "", lines: [line, line] });
});

test("collectives are delayed by the clock, messages are not, and nothing remains when the group closes", async () => {
  const { delayed }: { delayed: (delayMs: number) => Middleware } = await import(join(folder.path, "delayed.ts"));
  const clock = new ManualClock();
  const container = createContainer();
  container.register(CLOCK, { useValue: clock });
  container.register(BACKEND_MIDDLEWARE, { useValue: delayed(1_000) });
  const ends = await localRanks(
    2,
    async ({ rank, worldSize, store }) => {
      const group = await initProcessGroup({ backend: "fake", container, rank, worldSize, store });
      const [first, second] = [group.allReduce(Int32Array.of(rank)), group.allReduce(Int32Array.of(10 * rank))];
      const message = Int32Array.of(7);
      await (rank === 0 ? group.send(message, { dst: 1 }) : group.recv(message, { src: 0 }));
      const early = first.isCompleted();
      if (rank === 1) clock.advance(1_000);
      const sums = [(await first)[0], (await second)[0]];
      const held = group.barrier().catch((error: unknown) => (error as DistError).code);
      await group.close();
      return [early, sums, await held];
    },
    { init: false },
  );
  // The rank that closes first aborts; the other one then loses its peer.
  const end = [false, [1, 10], expect.stringMatching(/^(ABORTED|PEER_LOST)$/)];
  expect(ends).toEqual([end, end]);
  expect(clock.pending).toBe(0);
});

test("the page lists all fields of the context", () => {
  const source = readFileSync(join(root, "src/registry/contracts/middleware.ts"), "utf8");
  const [, context = ""] = /interface GroupContext \{([\s\S]*?)\n\}/.exec(source) ?? [];
  const fields = Array.from(context.matchAll(/^ {2}(?:readonly )?(\w+)[:(]/gm), ([, field = ""]) => field);
  expect(fields.length).toBeGreaterThan(10);
  expect(fields.filter((field) => !page.includes(`\`${field}\``) && !page.includes(`\`${field}(`))).toEqual([]);
});
