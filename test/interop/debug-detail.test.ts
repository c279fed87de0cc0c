import { expect, setDefaultTimeout, test } from "bun:test";
import { describeWithTorch } from "./torch.ts";

setDefaultTimeout(60_000);

const python = `
import os
import torch.distributed as dist
from datetime import timedelta
dist.init_process_group("gloo", timeout=timedelta(seconds=8))
`;
const bun = `
import * as dist from ${JSON.stringify(new URL("../../src/index.ts", import.meta.url).pathname)};
try {
  const group = await dist.initProcessGroup({ backend: "gloo", timeout: "20s" });
  await dist.allReduce(new Float32Array(1));
  console.log("ran");
} catch (error) {
  console.log(JSON.stringify({ code: error.code, message: error.message, peers: error.details.peers }));
}
process.exit(0);
`;

describeWithTorch("TORCH_DISTRIBUTED_DEBUG=DETAIL", (interpreter) => {
  test("on the Python side is an error that names the rank and the remedy", async () => {
    const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    const { port } = listener;
    listener.stop(true);
    const start = (command: string[], rank: number, debug: string) =>
      Bun.spawn(command, {
        env: {
          ...process.env,
          RANK: String(rank),
          WORLD_SIZE: "2",
          MASTER_ADDR: "127.0.0.1",
          MASTER_PORT: String(port),
          TORCH_DISTRIBUTED_DEBUG: debug,
          TORCH_CPP_LOG_LEVEL: "ERROR",
          C10D_STORE_SECRET: "",
        },
        stdin: "ignore",
        stdout: "pipe",
        stderr: "ignore",
        timeout: 40_000,
        killSignal: "SIGKILL",
      });
    const peer = start([interpreter, "-c", python], 0, "DETAIL");
    const own = start([process.execPath, "-e", bun], 1, "OFF");
    const report = JSON.parse((await own.stdout.text()).trim()) as { code: string; message: string; peers: number[] };
    expect(["PEER_DEBUG_DETAIL", "ABORTED"]).toContain(report.code);
    expect(report.message).toContain("rank 0 runs PyTorch with TORCH_DISTRIBUTED_DEBUG=DETAIL");
    expect(report.message).toContain("set it to INFO or OFF on all Python ranks");
    peer.kill("SIGKILL");
    await Promise.all([own.exited, peer.exited]);
  });
});
