import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { fileURLToPath } from "node:url";
import { TCPStoreServer } from "../../src/store/index.ts";
import { ForkedPython } from "../interop/forked-python.ts";
import { freePort, peerEnvironment, runProgram } from "../interop/programs.ts";
import { describeWithTorch } from "../interop/torch.ts";

setDefaultTimeout(90_000);

// What either side reports when something goes wrong in a group of Bun's and PyTorch's ranks:
// docs/join-a-pytorch-job.md.

const library = fileURLToPath(new URL("../../src/index.ts", import.meta.url));

/** A rank in Bun: an error that `body` throws is reported. */
const bun = (body: string) => `
import * as dist from ${JSON.stringify(library)};
const group = await dist.initProcessGroup({ backend: "gloo", timeout: "20s" });
const rank = dist.getRank();
await dist.barrier();
try {
  ${body}
  console.log("{}");
} catch (error) {
  console.log(JSON.stringify({ name: error.name, code: error.code, message: error.message, peers: error.details?.peers }));
}
await Bun.sleep(500);
process.exit(0);
`;

/** A rank in Python: the same. */
const python = (body: string) => `
import json, os, time
import torch
import torch.distributed as dist
from datetime import timedelta
dist.init_process_group("gloo", timeout=timedelta(seconds=20))
rank = dist.get_rank()
dist.barrier()
try:
${body.replaceAll(/^/gm, "    ")}
    print("{}", flush=True)
except Exception as error:
    print(json.dumps({"name": type(error).__name__, "message": str(error)}), flush=True)
time.sleep(0.5)
os._exit(0)
`;

interface Told {
  readonly name?: string;
  readonly code?: string;
  readonly message?: string;
  readonly peers?: readonly number[];
}

const limitMs = 60_000;
describeWithTorch("faults in Gloo groups with PyTorch", (interpreter) => {
  let pythons: ForkedPython;
  beforeAll(async () => {
    pythons = await ForkedPython.start(interpreter, peerEnvironment);
  });
  afterAll(() => pythons[Symbol.asyncDispose]());

  /** Runs a rank for each program; returns what each reports, which is nothing if it was killed. */
  async function job(programs: readonly string[]): Promise<(Told | undefined)[]> {
    const isPython = (program: string | undefined) => program?.startsWith("\nimport json") === true;
    // The store is Bun's or PyTorch's, depending on rank 0. A port that is released may be taken by another job.
    await using server = await TCPStoreServer.listen({ host: "127.0.0.1", port: 0 });
    const port = isPython(programs[0]) ? freePort() : server.port;
    const hosted: Record<string, string> = isPython(programs[0]) ? {} : { TORCHELASTIC_USE_AGENT_STORE: "True" };
    return await Promise.all(
      programs.map(async (program, rank) => {
        const env = {
          RANK: String(rank),
          WORLD_SIZE: String(programs.length),
          MASTER_ADDR: "127.0.0.1",
          MASTER_PORT: String(port),
          ...hosted,
        };
        const { code, stdout, stderr } = await (isPython(program)
          ? pythons.run({ code: program }, env, limitMs)
          : runProgram([process.execPath, "-e", program], env, limitMs));
        const killed = code === null || code < 0;
        const line = stdout.trim().split("\n").at(-1);
        if (!killed && !line) throw new Error(`rank ${rank} reported nothing: ${stderr}`);
        return line ? (JSON.parse(line) as Told) : undefined;
      }),
    );
  }

  const dieInBun = "setTimeout(() => process.kill(process.pid, 'SIGKILL'), 300);";
  const dieInPython =
    "import signal, threading\nthreading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()\n";
  const reduceInBun = "for (;;) await dist.allReduce(new Float32Array(1000));";
  const reduceInPython = "while True: dist.all_reduce(torch.ones(1000))";

  test.concurrent("a Python rank is killed: the Bun ranks name it", async () => {
    const reports = await job([bun(reduceInBun), python(dieInPython + reduceInPython), bun(reduceInBun)]);
    expect(reports[1]).toBeUndefined();
    for (const each of [reports[0], reports[2]]) {
      expect(each).toMatchObject({ name: "DistNetworkError", code: "PEER_LOST", peers: [1] });
      expect(each?.message).toContain("rank 1");
    }
  });

  test.concurrent("a Bun rank is killed: PyTorch raises, the other Bun rank names it", async () => {
    const reports = await job([python(reduceInPython), bun(dieInBun + reduceInBun), bun(reduceInBun)]);
    expect(reports[0]?.name).toBe("RuntimeError");
    expect(reports[0]?.message).toMatch(/Connection (closed|reset) by peer/);
    expect(reports[1]).toBeUndefined();
    expect(reports[2]).toMatchObject({ name: "DistNetworkError", code: "PEER_LOST", peers: [1] });
  });

  test.concurrent("a Python rank is late: the Bun ranks time out, and PyTorch raises when it arrives", async () => {
    const hasty = bun("await dist.allReduce(new Float32Array(1000), { timeout: 1_000 });");
    const reports = await job([hasty, python("time.sleep(2)\ndist.all_reduce(torch.ones(1000))"), hasty]);
    for (const each of [reports[0], reports[2]]) {
      expect(each).toMatchObject({ name: "DistTimeoutError", code: "OP_TIMEOUT", peers: [1] });
    }
    expect(reports[1]?.name).toBe("RuntimeError");
    expect(reports[1]?.message).toMatch(/Connection (closed|reset) by peer/);
  });

  test.concurrent("int16 and 8-bit floats, which PyTorch refuses in collectives, are refused before anything is sent, and the group stays usable", async () => {
    const reports = await job([
      bun(`
        const refused = await dist.allReduce(new Int16Array(4)).then(() => undefined, (error) => error);
        const eightBits = dist.tensor([1, 2], { dtype: "float8_e5m2" });
        const other = await dist.broadcast(eightBits, { src: 0 }).then(() => undefined, (error) => error);
        if (!String(other).includes("takes no float8_e5m2")) throw new Error("the broadcast: " + other);
        const sum = new Int32Array([1]);
        await dist.allReduce(sum);
        if (sum[0] !== 2) throw new Error("the sum is " + sum[0]);
        const message = new Uint16Array(2);
        await dist.recv(message, { src: 1 });
        if (message[1] !== 7) throw new Error("the message is " + message);
        await dist.send(eightBits, { dst: 1 });
        await dist.recv(eightBits, { src: 1 });
        if (String(eightBits.toNumbers()) !== "2,4") throw new Error("the message is " + eightBits.toNumbers());
        throw refused;
      `),
      python(`
dist.all_reduce(torch.ones(1, dtype=torch.int32))
dist.send(torch.tensor([6, 7], dtype=torch.uint16), 0)
data = torch.zeros(2, dtype=torch.float8_e5m2)
dist.recv(data, 0)
dist.send((data.float() * 2).to(data.dtype), 0)`),
    ]);
    expect(reports[0]).toMatchObject({ name: "UnsupportedOperationError" });
    expect(reports[0]?.message).toContain("rank 1 is PyTorch's, whose Gloo takes no int16");
    expect(reports[1]).toEqual({});
  });

  test.concurrent("what PyTorch refuses in other ops is also refused, and the group stays usable", async () => {
    const reports = await job([
      bun(`
        const pair = () => dist.tensor([1, 2], { dtype: "complex64" });
        const both = await Promise.all([
          dist.gather(pair(), { dst: 0, outputs: [pair(), pair()] }).then(() => undefined, (error) => error),
          dist.allToAll([1, 2].map((n) => new Float32Array(n)), [1, 2].map((n) => new Float32Array(n)))
            .then(() => undefined, (error) => error),
        ]);
        const sum = new Int32Array([1]);
        await dist.allReduce(sum);
        if (sum[0] !== 2) throw new Error("the sum is " + sum[0]);
        throw Object.assign(new Error(both.map(({ message }) => message).join("; ")), { name: both[0].name + both[1].name });
      `),
      python("dist.all_reduce(torch.ones(1, dtype=torch.int32))"),
    ]);
    expect(reports[0]?.name).toBe("UnsupportedOperationErrorUnsupportedOperationError");
    expect(reports[0]?.message).toContain("no complex numbers in gather");
    expect(reports[0]?.message).toContain("only lists of equally large tensors in allToAll");
    expect(reports[1]).toEqual({});
  });

  test.concurrent("a sum of bools, whose bytes PyTorch adds, is true on Bun ranks", async () => {
    const body = `
      const sum = dist.tensor(Uint8Array.of(1, 0, 1, 1), { dtype: "bool" });
      await dist.allReduce(sum);
      if (String(sum.data) !== "1,0,1,1") throw new Error("the sum is " + sum.data);
      const part = dist.tensor(Uint8Array.of(0), { dtype: "bool" });
      await dist.reduceScatter(part, [1, 2, 3].map(() => dist.tensor(Uint8Array.of(1), { dtype: "bool" })));
      if (String(part.data) !== "1") throw new Error("the part is " + part.data);`;
    const reports = await job([
      bun(body),
      python(`
data = torch.tensor([True, False, True, True])
dist.all_reduce(data)
dist.reduce_scatter(torch.tensor([False]), [torch.tensor([True])] * 3)
assert data.tolist() == [True, False, True, True]`),
      bun(body),
    ]);
    expect(reports).toEqual([{}, {}, {}]);
  });

  test.concurrent("PyTorch refuses int16 itself", async () => {
    const reports = await job([
      bun("await dist.recv(new Float32Array(1), { src: 1, timeout: 5_000 });"),
      python("dist.all_reduce(torch.ones(4, dtype=torch.int16))"),
    ]);
    expect(reports[0]?.peers).toEqual([1]);
    expect(reports[1]).toMatchObject({ name: "RuntimeError", message: expect.stringContaining("Invalid scalar type") });
  });

  test.concurrent("sizes that differ are an error on the Bun rank", async () => {
    const reports = await job([
      bun("await dist.broadcast(new Float32Array(4), { src: 1 });"),
      python("dist.broadcast(torch.ones(8), 1)\ndist.barrier()"),
    ]);
    expect(reports[0]?.message).toMatch(/rank 1 sent 32 bytes, rank 0 was to receive 16/);
    expect(reports[0]?.peers).toEqual([]);
    expect(reports[1]?.name).toBe("RuntimeError");
  });

  test.concurrent("a Python object is refused", async () => {
    const reports = await job([
      bun("await dist.broadcastObject(undefined, { src: 1 });"),
      python("dist.broadcast_object_list([{'a': 1}], 1)"),
    ]);
    expect(reports[0]).toMatchObject({ name: "DistBackendError", code: "OBJECT_MALFORMED" });
    expect(reports[0]?.message).toContain("only Bun ranks can exchange objects, since PyTorch pickles them");
    expect(reports[1]).toEqual({});
  });
});
