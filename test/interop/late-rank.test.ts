import { expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describeWithTorch } from "./torch.ts";

// A PyTorch rank in lazy-init mode connects at its first op, which may be after the group has failed on its peer.

setDefaultTimeout(60_000);

const bunRank = `
import { existsSync, writeFileSync } from "node:fs";
import * as dist from "${join(import.meta.dir, "../../src/index.ts")}";
await dist.initProcessGroup({ backend: "gloo", timeout: "30s" });
const code = await dist.allReduce(new Float32Array(4), { timeout: "500ms" }).then(() => "none", (error) => error.code);
writeFileSync(process.env.FOLDER + "/failed", "");
while (!existsSync(process.env.FOLDER + "/dialled")) await Bun.sleep(20);
await Bun.sleep(200);
console.log(code);
process.exit(0);`;

const pythonRank = `
import os, time, torch, torch.distributed as dist
from datetime import timedelta
dist.init_process_group("gloo", timeout=timedelta(seconds=30))
while not os.path.exists(os.environ["FOLDER"] + "/failed"): time.sleep(0.02)
began = time.monotonic()
try:
    dist.all_reduce(torch.ones(4))
    said = "none"
except RuntimeError:
    said = "failed"
open(os.environ["FOLDER"] + "/dialled", "w").close()
print(said, "soon" if time.monotonic() - began < 10 else "late", flush=True)
os._exit(0)`;

describeWithTorch("a PyTorch rank in lazy-init mode", (python) => {
  test("that connects to a group which has failed does not disturb it, and fails", async () => {
    const folder = mkdtempSync(join(tmpdir(), "c10d-late-"));
    using free = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    const { port } = free;
    free.stop(true);
    const commands = [
      [python, "-c", pythonRank],
      [process.execPath, "-e", bunRank],
    ];
    try {
      const ended = await Promise.all(
        commands.map(async (cmd, rank) => {
          const job = { RANK: `${rank}`, WORLD_SIZE: "2", MASTER_ADDR: "127.0.0.1", MASTER_PORT: `${port}` };
          const mode = { TORCH_GLOO_LAZY_INIT: "1", C10D_STORE_SECRET: "", FOLDER: folder };
          const child = Bun.spawn([...cmd], {
            env: { ...process.env, ...job, ...mode },
            stdout: "pipe",
            stderr: "pipe",
            timeout: 50_000,
            killSignal: "SIGKILL",
          });
          const [stdout, stderr] = await Promise.all([child.stdout.text(), child.stderr.text()]);
          const code = await child.exited;
          return { code, stdout: stdout.trim(), stderr: code === 0 ? "" : stderr };
        }),
      );
      expect(ended).toEqual([
        { code: 0, stdout: "failed soon", stderr: "" },
        { code: 0, stdout: "OP_TIMEOUT", stderr: "" },
      ]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
