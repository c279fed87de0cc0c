/**
 * The cost of an op that sends nothing: one rank, and a shim whose ops complete at once. Shows where the time goes: the
 * engine alone (a loop in C++), the calls of the shim ABI from TypeScript, the backend, and all of `dist.allReduce()`,
 * without and with call sites and hooks. The flight recorder is on.
 *
 *     bun bench/overhead.ts [--rounds 15] [--json]
 */
import { dlopen, type Pointer } from "bun:ffi";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { NativeBackend } from "../src/backends/native/native-backend.ts";
import { NO_TENSORS, type OpCall, opCall } from "../src/collectives/op-call.ts";
import * as dist from "../src/index.ts";
import { ConfigLayout, EventLayout, GroupStateCode } from "../src/native/abi.generated.ts";
import { loadShim, OpRecords } from "../src/native/index.ts";
import { StatusRecord } from "../src/status/index.ts";
import { viewTensor } from "../src/tensor/index.ts";
import { median, table } from "./harness/samples.ts";

const OPS_PER_ROUND = 20_000;

const folder = process.env.C10D_NATIVE_DIR ?? fileURLToPath(new URL("../build/release/lib", import.meta.url));
const shim = loadShim({ name: "null", path: `${folder}/libc10d_null.so` });

const capabilities: dist.Capabilities = {
  ops: { allReduce: ["float32"] },
  reduceOps: { float32: ["SUM"] },
  keepsTimeouts: true,
};

dist.registerBackend({
  name: "null",
  type: dist.BackendType.CUSTOM,
  sdk: 2,
  devices: ["cpu"],
  bootstrap: "self",
  capabilities,
  probe: () => Promise.resolve({ available: true, version: shim.version }),
  create: (context) => NativeBackend.connect(shim, context, {}, capabilities),
});

const { values } = parseArgs({
  options: { rounds: { type: "string", default: "15" }, json: { type: "boolean", default: false } },
});
const store = new dist.HashStore();
await using group = await dist.initProcessGroup({ backend: "null", store, rank: 0, worldSize: 1 });
const withoutSites = await groupWith("0");
const hooked = await groupWith("1");
hooked.registerHook({ pre: () => {}, post: () => {} });
hooked.registerOnCompletionHook(() => {});
const tensor = new Float32Array(1);
const device = { type: "cpu", index: 0 } as const;
const terms = { reduceOp: dist.ReduceOp.SUM };

/** Nanoseconds of one op in each way: the median over short rounds in turns. */
const loops: Readonly<Record<string, (count: number) => number | Promise<number>>> = {
  "engine alone (C++ loop)": nativeLoop(),
  "submit_one + wait from TypeScript": ffiLoop(),
  "status record: begin and end": statusLoop(),
  "backend.submit([call]) and wait()": (count) => {
    const backend = group.backend();
    const begin = Bun.nanoseconds();
    for (let i = 0; i < count; i++) backend.submit([allReduceCall()])[0]?.wait();
    return (Bun.nanoseconds() - begin) / count;
  },
  "group.allReduce(t).wait(), C10D_CALL_SITES=0": (count) => groupLoop(withoutSites, count),
  "group.allReduce(t).wait()": (count) => groupLoop(group, count),
  "group.allReduce(t).wait(), hooks and end hook": (count) => groupLoop(hooked, count),
  "dist.allReduce(t).wait()": (count) => {
    const begin = Bun.nanoseconds();
    for (let i = 0; i < count; i++) dist.allReduce(tensor).wait();
    return (Bun.nanoseconds() - begin) / count;
  },
  "dist.allReduce(t).wait(), a turn each": async (count) => {
    const begin = Bun.nanoseconds();
    for (let i = 0; i < count; i++) {
      dist.allReduce(tensor).wait();
      await undefined;
    }
    return (Bun.nanoseconds() - begin) / count;
  },
  "await dist.allReduce(t)": async (count) => {
    const few = count / 20;
    const begin = Bun.nanoseconds();
    for (let i = 0; i < few; i++) await dist.allReduce(tensor);
    return (Bun.nanoseconds() - begin) / few;
  },
};

const taken = new Map<string, number[]>();
for (let round = 0; round < Number(values.rounds); round++) {
  for (const [name, loop] of Object.entries(loops)) {
    const nanos = await loop(OPS_PER_ROUND);
    taken.set(name, [...(taken.get(name) ?? []), nanos]);
  }
}
if (values.json) console.log(JSON.stringify(Object.fromEntries(taken)));
else {
  const rows = [...taken].map(([name, nanos]) => [
    name,
    `${median(nanos).toFixed(0)}`,
    `${Math.min(...nanos).toFixed(0)}`,
  ]);
  console.log(table([["ns per op", "median", "least"], ...rows]));
  const figure = (name: string) => median(taken.get(name) ?? []);
  const bare = figure("group.allReduce(t).wait(), C10D_CALL_SITES=0");
  const facade = bare - figure("backend.submit([call]) and wait()");
  const sites = figure("group.allReduce(t).wait()") - bare;
  console.log(`facade, pipeline and recorder: ${facade.toFixed(0)} ns (goal 400)`);
  console.log(`call sites: ${sites.toFixed(0)} ns more (goal 600)`);
}

function groupLoop(of: dist.ProcessGroup, count: number): number {
  const begin = Bun.nanoseconds();
  for (let i = 0; i < count; i++) of.allReduce(tensor).wait();
  return (Bun.nanoseconds() - begin) / count;
}

/** A group reads the variable when it is made. */
async function groupWith(callSites: string): Promise<dist.ProcessGroup> {
  process.env.C10D_CALL_SITES = callSites;
  const made = await dist.newGroup();
  delete process.env.C10D_CALL_SITES;
  if (made === null) throw new Error("this rank is not a member");
  return made;
}

function nativeLoop(): (count: number) => number {
  const { handle, op } = rawGroup();
  const { symbols } = dlopen(shim.path, {
    c10d_null_loop: { args: ["ptr", "ptr", "ptr", "u32"], returns: "f64" },
  });
  const bytes = new Uint8Array(op);
  return (count) => symbols.c10d_null_loop(handle, bytes, tensor, count);
}

function ffiLoop(): (count: number) => number {
  const { handle, op } = rawGroup();
  const { c10d_submit_one, c10d_wait } = shim.symbols;
  const result = new Int32Array(new ArrayBuffer(EventLayout.SIZE));
  return (count) => {
    const begin = Bun.nanoseconds();
    for (let i = 0; i < count; i++) {
      const id = c10d_submit_one(handle, op, null, tensor);
      c10d_wait(handle, id, Number.POSITIVE_INFINITY, result, EventLayout.SIZE);
    }
    return (Bun.nanoseconds() - begin) / count;
  };
}

/** What an op costs in the status record; the loops of whole ops include it unless C10D_STATUS=0 is set. */
function statusLoop(): (count: number) => number {
  const folder = mkdtempSync(join(tmpdir(), "c10d-bench-"));
  const record = StatusRecord.create(join(folder, "rank-0"), 0, 1);
  rmSync(folder, { recursive: true });
  const status = record.group({ name: "0", backends: ["null"], rank: 0, size: 1 });
  const work = dist.Work.completed(undefined, { opType: dist.OpType.ALLREDUCE, seq: 1 });
  return (count) => {
    const begin = Bun.nanoseconds();
    for (let i = 0; i < count; i++) {
      const slot = status.begin(work, dist.OpType.ALLREDUCE, false, -1, i, 4, undefined);
      status.end(slot, work, i, false);
    }
    return (Bun.nanoseconds() - begin) / count;
  };
}

function allReduceCall(): OpCall {
  return opCall("allReduce", device, NO_TENSORS, [viewTensor(tensor)], 30_000, terms);
}

/** A native group without any of the library's TypeScript around it, and an op for it. */
function rawGroup(): { handle: Pointer; op: ArrayBuffer } {
  const config = new DataView(new ArrayBuffer(ConfigLayout.SIZE));
  config.setUint32(ConfigLayout.size, ConfigLayout.SIZE, true);
  config.setInt32(ConfigLayout.worldSize, 1, true);
  config.setFloat64(ConfigLayout.timeoutMs, 30_000, true);
  const handle = shim.symbols.c10d_create(config.buffer);
  if (handle === null) throw new Error("c10d_create failed");
  while (shim.symbols.c10d_group_state(handle) === GroupStateCode.CONNECTING) Bun.sleepSync(1);
  const records = new OpRecords();
  void tensor.buffer; // From now on its address is fixed.
  records.fillInPlace(allReduceCall());
  return { handle, op: records.bytes };
}
