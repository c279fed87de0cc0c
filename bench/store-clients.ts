/**
 * Many clients join one store server on this machine: `bun bench/store-clients.ts [clients, 2000] [processes, 4]`. Each
 * connects, joins (`init/`), sets its key, reads those of its neighbours, and enters a barrier. Reports the time of
 * each step from the first connection to the last client, and the memory of the server.
 */
import { TCPStore } from "../src/store/index.ts";
import { quantile, table } from "./harness/samples.ts";
import { StoreProcess } from "./harness/store-process.ts";

const steps = ["connect + join", "set", "get neighbours", "barrier"] as const;
/** Each client reads the keys of this many clients before and after it. */
const reach = 4;

interface Part {
  /** End of each step, of each client, on a clock that all processes share. */
  readonly ends: readonly (readonly number[])[];
  readonly cpuSeconds: number;
}

if (process.env.STORE_CLIENTS_PART) {
  const [port = 0, first = 0, count = 0, clients = 0] = process.env.STORE_CLIENTS_PART.split(" ").map(Number);
  const ends = await Promise.all(Array.from({ length: count }, (_, i) => join(port, first + i, clients)));
  const { user, system } = process.cpuUsage();
  console.log(JSON.stringify({ ends, cpuSeconds: (user + system) / 1e6 } satisfies Part));
  process.exit(0);
}

const [clients = 2000, processes = 4] = process.argv.slice(2).map(Number);
await using server = await StoreProcess.start();
const idleMiB = server.memoryMiB();
const idleCpu = server.cpuSeconds();
const began = Date.now();
const parts = await Promise.all(
  Array.from({ length: processes }, async (_, i): Promise<Part> => {
    const first = Math.floor((clients * i) / processes);
    const count = Math.floor((clients * (i + 1)) / processes) - first;
    const child = Bun.spawn([process.execPath, import.meta.path], {
      env: { ...process.env, STORE_CLIENTS_PART: `${server.port} ${first} ${count} ${clients}` },
      stdout: "pipe",
      stderr: "inherit",
    });
    const output = await new Response(child.stdout).text();
    if ((await child.exited) !== 0) throw new Error(`a process with clients ended with ${child.exitCode}`);
    return JSON.parse(output) as Part;
  }),
);
const ends = parts.flatMap((part) => part.ends);
if (ends.length !== clients) throw new Error(`${ends.length} of ${clients} clients were served`);
const rows = steps.map((step, i) => {
  const times = ends.map((each) => (each[i] ?? Number.NaN) - began);
  return [step, quantile(times, 0.5), Math.max(...times)].map((cell) =>
    typeof cell === "number" ? `${Math.round(cell)} ms` : cell,
  );
});
console.log(`${clients} clients in ${processes} processes, all served; times since the processes were started`);
console.log(table([["done with", "half of them", "all"], ...rows]));
const cpu = (seconds: number) => `${seconds.toFixed(1)} s`;
const clientsCpu = parts.reduce((sum, { cpuSeconds }) => sum + cpuSeconds, 0);
console.log(`server: ${idleMiB} MiB before, ${server.peakMiB()} MiB at most`);
// The meaningful figure when other jobs keep the machine busy.
console.log(`time on CPUs: ${cpu(server.cpuSeconds() - idleCpu)} the server, ${cpu(clientsCpu)} the clients`);

async function join(port: number, me: number, worldSize: number): Promise<number[]> {
  const times: number[] = [];
  const done = () => times.push(Date.now());
  const store = await TCPStore.connect({ host: "127.0.0.1", port, worldSize, timeout: "120s" });
  done();
  await store.set(`client/${me}`, `address of ${me}`);
  done();
  const neighbours = Array.from({ length: 2 * reach + 1 }, (_, i) => (me - reach + i + worldSize) % worldSize);
  const values = await store.multiGet(neighbours.map((each) => `client/${each}`));
  const wrong = values.findIndex((value, i) => new TextDecoder().decode(value) !== `address of ${neighbours[i]}`);
  if (wrong >= 0) throw new Error(`client ${me} read a wrong value of client ${neighbours[wrong]}`);
  done();
  await store.barrier("all", worldSize);
  done();
  return times;
}
