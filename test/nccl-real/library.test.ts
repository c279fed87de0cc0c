import { beforeAll, expect, test } from "bun:test";
import { fileURLToPath } from "node:url";
import { capabilitiesOf, FLOAT8_SINCE } from "../../src/backends/nccl/capabilities.ts";
import { versionText } from "../../src/backends/nccl/nccl-version.ts";
import { describeWithLibrary } from "./installation.ts";

/** What fixtures/ask-library.ts prints. */
interface Answers {
  readonly version: { readonly result: number; readonly number: number };
  readonly uniqueIds: readonly string[];
  /** From code -1 on. */
  readonly errors: readonly string[];
  readonly absent: readonly string[];
  readonly creations: readonly Creation[];
}

interface Creation {
  readonly title: string;
  readonly result: number;
  readonly communicator: number;
  readonly message: string;
}

/** The functions that the backend may use, by the version of NCCL that brought them. */
const functionsSince: ReadonlyMap<number, readonly string[]> = new Map([
  [
    21805,
    [
      ...["GetVersion", "GetUniqueId", "GetErrorString", "GetLastError", "GroupStart", "GroupEnd"],
      ...["CommInitRankConfig", "CommSplit", "CommFinalize", "CommDestroy", "CommAbort", "CommGetAsyncError"],
      ...["CommCount", "CommCuDevice", "CommUserRank", "RedOpCreatePreMulSum", "RedOpDestroy"],
      ...["AllReduce", "Broadcast", "Reduce", "AllGather", "ReduceScatter", "Send", "Recv"],
    ],
  ],
  [21903, ["CommRegister", "CommDeregister", "MemAlloc", "MemFree"]],
  [22203, ["GroupSimulateEnd"]],
  [22304, ["CommInitRankScalable"]],
  [22703, ["CommShrink", "CommWindowRegister", "CommWindowDeregister"]],
  [22803, ["AlltoAll", "Gather", "Scatter"]],
  [22809, ["CommRevoke"]],
  [22902, ["CommGrow", "CommGetUniqueId", "PutSignal", "Signal", "WaitSignal", "WinGetUserPtr"]],
  [22907, ["CommSuspend", "CommResume", "CommMemStats"]],
  [23007, ["ParamGetParameter", "ParamGetI64"]],
]);

/** What a fixture prints, with this environment on top of the test's. */
async function answersOf(fixture: string, args: readonly string[], env: Record<string, string> = {}): Promise<unknown> {
  const file = fileURLToPath(new URL(`fixtures/${fixture}`, import.meta.url));
  const child = Bun.spawn([process.execPath, file, ...args], {
    env: { ...process.env, NCCL_DEBUG: "NONE", ...env },
    stdin: "ignore",
    stderr: "pipe",
    timeout: 40_000,
  });
  const [output, errors, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  if (code !== 0) throw new Error(`${fixture} ended with ${code}: ${errors}`);
  return JSON.parse(output);
}

/** What fixtures/make-group.ts prints. */
interface GroupAnswers {
  readonly probe: { readonly available: boolean; readonly version?: string };
  readonly failure?: { readonly name: string; readonly message: string };
}

const emulatedDriver = fileURLToPath(new URL("../../build/release/nccl-emulator/libcuda.so.1", import.meta.url));

/** Whether this machine has a CUDA driver, with which a communicator may well be created. */
function hasDriver(): boolean {
  const { stdout } = Bun.spawnSync(["ldconfig", "-p"], { stdout: "pipe", stderr: "ignore" });
  return stdout.toString().includes("libcuda.so.1");
}

describeWithLibrary("NVIDIA's libnccl", (path) => {
  let answers: Answers;
  beforeAll(async () => {
    const names = [...functionsSince.values()].flat().map((name) => `nccl${name}`);
    answers = (await answersOf("ask-library.ts", [path, ...names])) as Answers;
  }, 60_000);

  test("says its version", () => {
    expect(answers.version.result).toBe(0);
    expect(answers.version.number).toBeGreaterThanOrEqual(21805);
    if (process.env.C10D_REAL_NCCL === undefined) expect(answers.version.number).toBe(23007);
  });

  test("has the functions of its version", () => {
    const expected = [...functionsSince].filter(([since]) => since > answers.version.number);
    expect(answers.absent).toEqual(expected.flatMap(([, names]) => names.map((name) => `nccl${name}`)));
  });

  test("makes unique ids of 128 bytes, no two of which are the same", () => {
    const [one = "", other] = answers.uniqueIds;
    expect(one).toHaveLength(2 * 128);
    expect(other).toHaveLength(2 * 128);
    expect(one).not.toBe(other ?? "");
    expect(one).toMatch(/[1-9a-f]/);
  });

  test("has a text for each code", () => {
    const [before, success, ...failures] = answers.errors;
    expect(success).toBe("no error");
    const known = failures.filter((text) => text !== before);
    // Since 2.30 there is ncclTimeout behind ncclInProgress.
    expect(known).toHaveLength(answers.version.number >= 23000 ? 8 : 7);
    expect(new Set(known).size).toBe(known.length);
    expect(known[6]).toContain("in progress");
  });

  test.skipIf(hasDriver())("without a driver, no configuration makes a communicator, and the library says why", () => {
    expect(answers.creations).toHaveLength(5);
    for (const { title, result, communicator, message } of answers.creations) {
      expect({ title, result, communicator }).toEqual({ title, result: 1, communicator: 0 }); // ncclUnhandledCudaError
      expect(message).toContain("CUDA driver version is insufficient");
    }
  });

  test("the backend takes it, and says why it cannot make a communicator on the emulator's driver", async () => {
    const env = { C10D_NCCL_LIBRARY: path, C10D_CUDA_LIBRARY: emulatedDriver };
    const { probe, failure } = (await answersOf("make-group.ts", [], env)) as GroupAnswers;
    expect(probe).toMatchObject({ available: true, version: `NCCL ${versionText(answers.version.number)}` });
    expect(failure?.name).toBe("DistBackendError");
    expect(failure?.message).toMatch(/ncclCommInitRankConfig: unhandled cuda error .*, last error: Cuda failure '.+'/);
  });

  test("capabilities are those of its version", () => {
    const { number } = answers.version;
    const { ops } = capabilitiesOf(number);
    expect(ops.broadcast?.includes("float8_e4m3fn")).toBe(number >= FLOAT8_SINCE);
    expect(ops.allReduce).toContain("bfloat16");
  });
});
