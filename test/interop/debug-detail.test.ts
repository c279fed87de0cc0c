import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { smokeSample } from "../../src/testing/backend-suite/smoke-sample.ts";
import { ForkedPython, type PythonProgram } from "./forked-python.ts";
import { freePort, peerEnvironment, runProgram } from "./programs.ts";
import { describeWithTorch, fixture } from "./torch.ts";

setDefaultTimeout(90_000);

const index = JSON.stringify(new URL("../../src/index.ts", import.meta.url).pathname);
const python = `
import os
import sys
import torch
import torch.distributed as dist
from datetime import timedelta
try:
    dist.init_process_group("gloo", timeout=timedelta(seconds=int(sys.argv[1])))
    dist.all_reduce(torch.ones(1))
    print("ran", flush=True)
except Exception as error:
    print("failed", flush=True)
os._exit(0)
`;
const bun = `
import * as dist from ${index};
try {
  const group = await dist.initProcessGroup({ backend: "gloo", timeout: process.argv.at(-1) });
  await dist.allReduce(new Float32Array(1));
  console.log("ran");
} catch (error) {
  console.log(JSON.stringify({ code: error.code, message: error.message, peers: error.details.peers }));
}
process.exit(0);
`;

/** Command line of a Bun rank, or program of a PyTorch rank. */
type Program = { readonly bun: readonly string[] } | PythonProgram;

interface Rank {
  readonly program: Program;
  readonly level: string;
}

const environment = { ...peerEnvironment, TORCH_CPP_LOG_LEVEL: "FATAL" };
const limitMs = 60_000;
let pythons: ForkedPython;

/** Runs a job of these ranks; returns the lines that each writes. */
async function run(ranks: readonly Rank[]): Promise<string[][]> {
  const port = freePort();
  const outputs = ranks.map(async ({ program, level }, rank) => {
    const env = {
      RANK: String(rank),
      WORLD_SIZE: String(ranks.length),
      MASTER_ADDR: "127.0.0.1",
      MASTER_PORT: String(port),
      TORCH_DISTRIBUTED_DEBUG: level,
    };
    const ended =
      "bun" in program
        ? runProgram([process.execPath, ...program.bun], env, limitMs)
        : pythons.run(program, env, limitMs);
    return (await ended).stdout;
  });
  return (await Promise.all(outputs)).map((text) => text.trim().split("\n"));
}

const bunRank = (timeout = "20s"): Program => ({ bun: ["-e", bun, "--", timeout] });
const pythonRank = (seconds: number): Program => ({ code: python, argv: [String(seconds)] });

interface End {
  readonly name: string;
  readonly ok: boolean;
  readonly code?: string;
  readonly message?: string;
  readonly details?: { readonly peers?: number[]; readonly calls?: { readonly rank: number; readonly call: string }[] };
}

type Kind = "Bun" | "Python";

describeWithTorch("TORCH_DISTRIBUTED_DEBUG=DETAIL", (interpreter) => {
  beforeAll(async () => {
    pythons = await ForkedPython.start(interpreter, environment);
  });
  afterAll(() => pythons[Symbol.asyncDispose]());

  describe("on one side", () => {
    test("on the Python side: an error that names the rank and the remedy", async () => {
      const [, [own = ""] = []] = await run([
        { program: pythonRank(10), level: "DETAIL" },
        { program: bunRank(), level: "OFF" },
      ]);
      const report = JSON.parse(own) as { code: string; message: string };
      // Found when the group is made, or just after.
      expect(["PEER_DEBUG_DETAIL", "ABORTED"]).toContain(report.code);
      expect(report.message).toContain("rank 0 runs PyTorch with TORCH_DISTRIBUTED_DEBUG=DETAIL");
      expect(report.message).toContain("this rank (1) does not: set the same level on all ranks");
    });

    test("on the Bun side: the same, and the Python rank does not hang", async () => {
      const [[other] = [], [own = ""] = []] = await run([
        { program: pythonRank(50), level: "OFF" },
        { program: bunRank("25s"), level: "DETAIL" },
      ]);
      expect(JSON.parse(own)).toMatchObject({ code: "PEER_DEBUG_DETAIL", peers: [0] });
      expect(own).toContain("rank 0 did not connect for that within 15000 ms of joining the group: set the same level");
      expect(other).toBe("failed");
    });
  });

  describe("on both sides", () => {
    const jobs: [string, Kind[], "await" | "wait"][] = [
      ["Python, Bun; await", ["Python", "Bun"], "await"],
      ["Python, Bun; wait()", ["Python", "Bun"], "wait"],
      ["Bun, Python; await", ["Bun", "Python"], "await"],
      ["Bun, Python, Bun; wait()", ["Bun", "Python", "Bun"], "wait"],
      ["Python, Bun, Python; await", ["Python", "Bun", "Python"], "await"],
      ["Bun, Bun, Bun; await", ["Bun", "Bun", "Bun"], "await"],
    ];
    test.each(smokeSample("jobs at DETAIL", jobs, 4))("%s", async (_, kinds, way) => {
      const lines = await run(
        kinds.map((kind) => ({
          program: kind === "Bun" ? { bun: [fixture("detail-rank.ts"), way] } : { argv: [fixture("detail_rank.py")] },
          level: "DETAIL",
        })),
      );
      const last = kinds.length - 1;
      const isMixed = kinds.includes("Python");
      for (const [rank, own] of lines.entries()) {
        const ends = new Map(own.map((line) => JSON.parse(line) as End).map((end) => [end.name, end]));
        const endOf = (name: string): End => ends.get(name) ?? { name, ok: false };
        const isBun = kinds[rank] === "Bun";
        const inSubgroup = rank === 0 || rank === last;
        const well = ["same", "same again", ...(inSubgroup ? ["sub-group again"] : [])];
        expect(well.filter((name) => !endOf(name).ok)).toEqual([]);

        // The rank that differs names the first other one, and the others name it.
        const other = rank === last ? 0 : last;
        for (const name of ["op", "dtype", "length", ...(inSubgroup ? ["sub-group"] : [])]) {
          const { ok, code, message = "", details } = endOf(name);
          // Ranks in the group, as everywhere in errors.
          const [here, there] = name === "sub-group" ? (rank === 0 ? [0, 1] : [1, 0]) : [rank, other];
          expect({ name, ok }).toEqual({ name, ok: false });
          if (isBun) expect(message).toMatch(/^\w+ #\d+ on group "\d+" \(gloo, rank \d of \d\): Detected mismatch /);
          expect(message).toContain(
            `Detected mismatch between collectives on ranks. Rank ${here} is running collective: CollectiveFingerPrint(SequenceNumber=`,
          );
          expect(message).toContain(`, but Rank ${there} is running collective: `);
          if (!isBun) continue;
          expect(code).toBe("DESYNC");
          expect(details?.calls?.map((each) => each.rank)).toEqual([here, there]);
        }
        const opOf = (isLast: boolean) => (isLast ? "BROADCAST" : "ALLREDUCE");
        const aspects = "Collectives differ in the following aspects:   Op type: ";
        expect(endOf("op").message).toContain(`.${aspects}${opOf(rank === last)}vs ${opOf(other === last)}`);
        expect(endOf("op").message).toContain(
          ", TensorShape=[2, 3], TensorDtypes=Float, TensorDeviceTypes=TensorOptions(",
        );
        const dtypeOf = (isLast: boolean) => (isLast ? "Int" : "Float");
        expect(endOf("dtype").message).toContain(
          `  Tensor Tensor dtypes: ${dtypeOf(rank === last)}vs ${dtypeOf(other === last)}`,
        );
        // PyTorch's wrapper, which sends no more than the length, names some other op.
        if (isBun && rank !== last) {
          expect(endOf("length").message).toContain(
            isMixed ? "one without tensors to compare" : "OpType=BARRIER).Collectives differ",
          );
        }

        if (rank === last) continue;
        const { ok, code, message = "", details } = endOf("missing");
        expect(ok).toBe(false);
        // PyTorch's own ranks wait as long as the group says: by then the Bun ranks have left.
        if (rank === 0 && isBun) {
          expect({ code, peers: details?.peers }).toEqual({ code: "OP_TIMEOUT", peers: [last] });
          expect(message).toContain(
            "ProcessGroupWrapper: Monitored Barrier encountered error running collective: CollectiveFingerPrint(SequenceNumber=",
          );
          // The limits of both expire at about the same time, and what is left of them after the start of the call counts.
          expect(message).toMatch(
            /Rank \d failed to pass monitoredBarrier in \d+ ms|rank 1: (timed out after \d+ ms|rank 0 did not answer in monitoredBarrier)/,
          );
        }
      }
    });
  });
});
