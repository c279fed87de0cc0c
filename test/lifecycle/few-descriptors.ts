// few-descriptors.ts ACTION LEFT [PORT]: does something when only LEFT file descriptors are left, and prints what became of
// it. To be run with a low limit.
import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import * as dist from "../../src/index.ts";
import { TCPStoreServer } from "../../src/store/index.ts";

const [action = "", left = "0", port = "0", folder = ""] = process.argv.slice(2);
const timeout = 5_000;

const actions: Readonly<Record<string, () => Promise<unknown>>> = {
  connect: () => dist.TCPStore.connect({ host: "127.0.0.1", port: Number(port), timeout }),
  "connect by name": () => dist.TCPStore.connect({ host: "localhost", port: Number(port), timeout }),
  listen: () => TCPStoreServer.listen({ host: "127.0.0.1", port: 0 }),
  host: () => dist.TCPStore.connect({ host: "127.0.0.1", port: 0, isMaster: true, worldSize: 1, timeout }),
  file: () => dist.FileStore.open(join(folder, "store"), 1, { timeout }),
  redis: () => dist.RedisStore.connect(`redis://127.0.0.1:${port}`, { timeout: 1_000 }),
  group: () => dist.initProcessGroup({ backend: "gloo", store: new dist.HashStore(), rank: 0, worldSize: 1, timeout }),
};

const taken: number[] = [];
try {
  for (;;) taken.push(openSync("/dev/null", "r"));
} catch {
  for (const fd of taken.splice(0, Number(left))) closeSync(fd);
}
const said = await actions[action]?.().then(
  () => ({ well: true }),
  ({ name, code, message }) => ({ name, code, message }),
);
for (const fd of taken) closeSync(fd);
console.log(JSON.stringify(said));
process.exit();
