/**
 * TCPStore against a raw TCP round trip to a Worker, in one run: `bun bench/store.ts`. The server runs in a Worker of
 * this process; the raw echo in another one.
 */
import { TCPStore } from "../src/store/index.ts";

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

async function main(): Promise<void> {
  const worker = new Worker(import.meta.url);
  const port = await new Promise<number>((resolve) => {
    worker.onmessage = (event: MessageEvent<number>) => resolve(event.data);
  });
  const store = await TCPStore.connect({ host: "127.0.0.1", port: 0, isMaster: true });
  let answered = () => {};
  const raw = await Bun.connect({ hostname: "127.0.0.1", port, socket: { data: () => answered() } });
  const message = new Uint8Array(24);

  const calls: Record<string, () => Promise<unknown>> = {
    "raw round trip": () =>
      new Promise<void>((resolve) => {
        answered = resolve;
        raw.write(message);
      }),
    "set + get": async () => {
      await store.set("key", "value");
      await store.get("key");
    },
    get: () => store.get("key"),
    add: () => store.add("counter", 1),
  };
  const times = new Map(Object.keys(calls).map((name) => [name, [] as number[]]));
  for (let round = 0; round < rounds; round++) {
    for (const [name, call] of Object.entries(calls)) {
      for (let i = 0; i < callsPerRound; i++) {
        const started = performance.now();
        await call();
        if (round > 0) times.get(name)?.push((performance.now() - started) * 1_000);
      }
    }
  }
  for (const [name, samples] of times) console.log(`${name.padEnd(16)} ${median(samples).toFixed(1)} µs median`);

  const keys = Array.from({ length: pipelined }, (_, i) => `key ${i}`);
  const floods: Record<string, () => Promise<unknown>> = {
    "concurrent set": () => Promise.all(keys.map((key) => store.set(key, "value"))),
    "concurrent get": () => Promise.all(keys.map((key) => store.get(key))),
    "concurrent add": () => Promise.all(keys.map(() => store.add("counter", 1))),
    multiSet: () => store.multiSet(keys, keys),
    multiGet: () => store.multiGet(keys),
  };
  for (const [name, flood] of Object.entries(floods)) {
    const rates: number[] = [];
    for (let round = 0; round < rounds; round++) {
      const started = performance.now();
      await flood();
      // What has no reply is done when the next call has one.
      await store.numKeys();
      if (round > 0) rates.push((pipelined / (performance.now() - started)) * 1_000);
    }
    console.log(`${name.padEnd(16)} ${Math.round(median(rates))} ops/s median`);
  }

  const big = new Uint8Array(8 << 20);
  const rates: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const started = performance.now();
    await store.set("big", big);
    await store.get("big");
    rates.push(performance.now() - started);
  }
  console.log(`${"8 MiB set + get".padEnd(16)} ${median(rates).toFixed(1)} ms median`);

  raw.end();
  worker.terminate();
  await store.close();
}

function median(values: number[]): number {
  return values.sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}
