import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { ForkedPython } from "./forked-python.ts";
import { freePort, peerEnvironment, runProgram } from "./programs.ts";
import { describeWithTorch } from "./torch.ts";

// Gloo ends the process of a PyTorch rank that gets a longer message than it expects. A Bun rank refuses to send it,
// and PyTorch's only sees that the connection breaks.

setDefaultTimeout(90_000);

/** Rank 0 is Python's. Ranks 1 and 2 block. */
interface Case {
  readonly from: number;
  readonly to: number;
  /** Elements of four bytes. */
  readonly sent: number;
  readonly expected: number;
}

const bunRank = `
import * as dist from "${join(import.meta.dir, "../../src/index.ts")}";
const { from, to, sent, expected } = JSON.parse(process.env.CASE);
const group = await dist.initProcessGroup({ backend: "gloo", timeout: "30s" });
const said = (error) => error.code === "DESYNC" ? error.message.replace(/^.*?: | \\(.*$/g, "") : error.code;
const end = (work) => { try { work.wait(); return "none"; } catch (error) { return said(error); } };
await dist.barrier();
const ends = [];
if (dist.getRank() === from) ends.push(end(dist.send(new Float32Array(sent).fill(1), { dst: to })));
if (dist.getRank() === to) ends.push(end(dist.recv(new Float32Array(expected), { src: from })));
// Fails if the message has.
ends.push(end(dist.recv(new Float32Array(1), { src: 0, tag: 9 })));
console.log(ends.join("; "));
process.exit(0);`;

const pythonRank = `
import json, os, time, torch, torch.distributed as dist
from datetime import timedelta
case = json.loads(os.environ["CASE"])
dist.init_process_group("gloo", timeout=timedelta(seconds=30))
dist.barrier()
ends = []
def end(call, *arguments):
    try:
        call(*arguments)
        ends.append("none")
    except RuntimeError:
        ends.append("failed")
if case["from"] == 0: end(dist.send, torch.ones(case["sent"]), case["to"])
if case["to"] == 0: end(dist.recv, torch.zeros(case["expected"]), case["from"])
for rank in (1, 2): end(dist.send, torch.ones(1), rank, None, 9)
print("; ".join(ends), flush=True)
os._exit(0)`;

const limitMs = 60_000;

async function run(pythons: ForkedPython, each: Case, lazy: boolean): Promise<string[]> {
  const port = freePort();
  return await Promise.all(
    [0, 1, 2].map(async (rank) => {
      const job = { RANK: `${rank}`, WORLD_SIZE: "3", MASTER_ADDR: "127.0.0.1", MASTER_PORT: `${port}` };
      const mode = { TORCH_GLOO_LAZY_INIT: lazy ? "1" : "0", CASE: JSON.stringify(each) };
      const env = { ...job, ...mode };
      const ended =
        rank === 0
          ? pythons.run({ code: pythonRank }, env, limitMs)
          : runProgram([process.execPath, "-e", bunRank], env, limitMs);
      const { code, stdout, stderr } = await ended;
      return code === 0 ? stdout.trim() : `exit code ${code}: ${stderr}`;
    }),
  );
}

describeWithTorch("a message of another size than its receive, in a group with PyTorch's", (python) => {
  let pythons: ForkedPython;
  beforeAll(async () => {
    pythons = await ForkedPython.start(python, peerEnvironment);
  });
  afterAll(() => pythons[Symbol.asyncDispose]());

  const sizes = ({ from, to, sent, expected }: Case): string =>
    `rank ${from} sent ${4 * sent} bytes, rank ${to} was to receive ${4 * expected}`;

  test.each([true, false])("from a Bun rank to PyTorch's, longer; lazy: %p", async (lazy) => {
    const each = { from: 1, to: 0, sent: 8, expected: 4 };
    const [toOf, sender] = await run(pythons, each, lazy);
    expect(toOf).toStartWith("failed; failed; ");
    expect(sender).toBe(`${sizes(each)}; GROUP_FAILED`);
  });

  test("from a Bun rank to PyTorch's, shorter: PyTorch takes it", async () => {
    const ends = await run(pythons, { from: 1, to: 0, sent: 2, expected: 4 }, false);
    expect(ends).toEqual(["none; none; none", "none; none", "none"]);
  });

  test.each([2, 8])("from PyTorch's to a Bun rank, %d elements instead of 4", async (sent) => {
    const each = { from: 0, to: 1, sent, expected: 4 };
    const [sender, receiver] = await run(pythons, each, false);
    expect(sender).toMatch(/^(none|failed); (none|failed); (none|failed)$/);
    expect(receiver).toBe(`${sizes(each)}; GROUP_FAILED`);
  });

  test.each([2, 8])("between Bun ranks, %d elements instead of 4", async (sent) => {
    const each = { from: 1, to: 2, sent, expected: 4 };
    const [bystander, ...others] = await run(pythons, each, false);
    expect(bystander).toMatch(/^(none|failed); (none|failed)$/);
    expect(others).toEqual(Array(2).fill(`${sizes(each)}; GROUP_FAILED`));
  });
});
