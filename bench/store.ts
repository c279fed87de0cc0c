/**
 * TCPStore against torch.distributed.TCPStore and a raw TCP round trip, in turns within one run: `bun bench/store.ts`.
 * Each server runs in the process of its client: ours in a Worker, PyTorch's on its thread. Without PyTorch
 * (`./bootstrap torch`, or `C10D_TORCH_PYTHON`) only ours is measured. PyTorch's client cannot send a request before
 * the previous one is answered, so its rates are those of sequential calls.
 */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { TCPStore } from "../src/store/index.ts";
import { LineProcess } from "./harness/line-process.ts";
import { median, table } from "./harness/samples.ts";

const rounds = 9;
const callsPerRound = 2_000;
const pipelined = 10_000;

if (!Bun.isMainThread) {
  const echo = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: { data: (socket, chunk) => void socket.write(chunk) },
  });
  postMessage(echo.port);
} else {
  await main();
}

/** One line of the result: ours and PyTorch's, by its name in store_torch.py. */
interface Measure {
  readonly name: string;
  readonly torch?: string;
  readonly count: number;
  readonly unit: "µs" | "ops/s" | "ms";
  readonly run: () => Promise<number>;
}

async function main(): Promise<void> {
  const worker = new Worker(import.meta.url);
  const port = await new Promise<number>((resolve) => {
    worker.onmessage = (event: MessageEvent<number>) => resolve(event.data);
  });
  await using store = await TCPStore.connect({ host: "127.0.0.1", port: 0, isMaster: true });
  let answered = () => {};
  const raw = await Bun.connect({ hostname: "127.0.0.1", port, socket: { data: () => answered() } });
  const message = new Uint8Array(24);
  const keys = Array.from({ length: pipelined }, (_, i) => `key ${i}`);
  const big = new Uint8Array(8 << 20);

  /** Median time of a call, with sequential calls. */
  const latency = (name: string, torch: string | undefined, call: () => Promise<unknown>): Measure => ({
    name,
    ...(torch !== undefined && { torch }),
    count: callsPerRound,
    unit: "µs",
    run: async () => {
      const samples: number[] = [];
      for (let i = 0; i < callsPerRound; i++) {
        const started = Bun.nanoseconds();
        await call();
        samples.push((Bun.nanoseconds() - started) / 1_000);
      }
      return median(samples);
    },
  });
  /** Calls per second, all concurrent. */
  const rate = (name: string, torch: string, flood: () => Promise<unknown>): Measure => ({
    name,
    torch,
    count: pipelined,
    unit: "ops/s",
    run: async () => {
      const started = performance.now();
      await flood();
      // A call without a reply is complete when the next call has its reply.
      await store.numKeys();
      return (pipelined / (performance.now() - started)) * 1_000;
    },
  });

  const measures: readonly Measure[] = [
    latency(
      "raw round trip",
      undefined,
      () =>
        new Promise<void>((resolve) => {
          answered = resolve;
          raw.write(message);
        }),
    ),
    latency("set + get", "one_set_get", async () => {
      await store.set("key", "value");
      await store.get("key");
    }),
    latency("get", "one_get", () => store.get("key")),
    latency("add", "one_add", () => store.add("counter", 1)),
    rate("concurrent set", "set", () => Promise.all(keys.map((key) => store.set(key, "value")))),
    rate("concurrent get", "get", () => Promise.all(keys.map((key) => store.get(key)))),
    rate("concurrent add", "add", () => Promise.all(keys.map(() => store.add("counter", 1)))),
    rate("multiSet, a key each", "multi_set", () => store.multiSet(keys, keys)),
    rate("multiGet, a key each", "multi_get", () => store.multiGet(keys)),
    rate("multiSet / set loop", "set", () => store.multiSet(keys, keys)),
    rate("multiGet / get loop", "get", () => store.multiGet(keys)),
    {
      name: "8 MiB set + get",
      count: 1,
      unit: "ms",
      run: async () => {
        const started = performance.now();
        await store.set("big", big);
        await store.get("big");
        return performance.now() - started;
      },
    },
  ];

  await using torch = startTorch();
  await torch?.answer();
  const results = measures.map(() => ({ ours: [] as number[], theirs: [] as number[] }));
  // The first round warms up.
  for (let round = 0; round <= rounds; round++) {
    for (const [i, { run, torch: counterpart, count }] of measures.entries()) {
      const ours = await run();
      const answer = counterpart === undefined ? undefined : await torch?.ask(`${counterpart} ${count}`);
      if (round === 0) continue;
      results[i]?.ours.push(ours);
      if (answer !== undefined) results[i]?.theirs.push((answer as { value: number }).value);
    }
  }
  raw.end();
  worker.terminate();

  const rows = measures.map(({ name, unit }, i) => {
    const { ours = [], theirs = [] } = results[i] ?? {};
    const shown = (samples: readonly number[]) =>
      samples.length === 0 ? "" : `${median(samples).toFixed(unit === "ops/s" ? 0 : 1)} ${unit}`;
    const ratio =
      theirs.length === 0 ? "" : median(ours.map((own, round) => own / (theirs[round] ?? Number.NaN))).toFixed(2);
    return [name, shown(ours), shown(theirs), ratio];
  });
  console.log(table([["median of rounds", "bun-c10d", "torch", "ours / torch"], ...rows]));
}

function startTorch(): LineProcess | undefined {
  const installed = fileURLToPath(new URL("../.tools/torch/bin/python", import.meta.url));
  const python = process.env.C10D_TORCH_PYTHON || installed;
  if (existsSync(python)) {
    const program = fileURLToPath(new URL("./store_torch.py", import.meta.url));
    return new LineProcess({ cmd: [python, program], env: { TORCH_CPP_LOG_LEVEL: "ERROR" } });
  }
  console.log("without PyTorch, which ./bootstrap torch installs");
  return undefined;
}
