import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { RedisServer } from "../../src/store/fixtures/redis-server.ts";
import { FileStore, RedisStore, type Store, TCPStore, TCPStoreServer } from "../../src/store/index.ts";
import {
  type AddCall,
  type AppendCall,
  type CompareSetCall,
  checkAdds,
  checkAppends,
  checkCompareSets,
} from "./history.ts";
import { Random } from "./random.ts";

setDefaultTimeout(120_000);

const full = process.env.C10D_SWEEP === "full";
const clients = 16;
const killed = 6;
const callsPerClient = full ? 1_000 : 60;
const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const program = fileURLToPath(new URL("./fixtures/history-client.ts", import.meta.url));

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** The address for the clients, and a store to check the result with. */
interface Place {
  readonly address: string;
  open(): Promise<Store>;
}

const places: Readonly<Record<string, (folder: string) => Promise<Place>>> = {
  async FileStore(folder) {
    const address = join(folder, "store");
    return { address, open: () => FileStore.open(address) };
  },
  async RedisStore() {
    const server = await RedisServer.start();
    cleanups.push(() => server.stop());
    const address = `redis://127.0.0.1:${server.port}`;
    return { address, open: () => RedisStore.connect(address) };
  },
  async TCPStore() {
    const server = await TCPStoreServer.listen({ host: "127.0.0.1", port: 0, secret: null });
    cleanups.push(() => server.close());
    const { port } = server;
    return { address: String(port), open: () => TCPStore.connect({ host: "127.0.0.1", port, secret: null }) };
  },
};

test.each(Object.keys(places))(
  "add, compareSet and append of 16 processes, some killed midway, are linearizable: %s",
  async (kind) => {
    const seed = crypto.getRandomValues(new Uint32Array(1))[0] ?? 0;
    const random = new Random(seed);
    const folder = mkdtempSync(join(tmpdir(), "histories-"));
    cleanups.push(() => rmSync(folder, { recursive: true }));
    const place = await places[kind]?.(folder);
    if (place === undefined) throw new Error(`no ${kind}`);
    const log = (me: number) => join(folder, `${me}.log`);
    const children = Array.from({ length: clients }, (_, me) => {
      const args = [kind, place.address, log(me), me, seed, callsPerClient].map(String);
      return Bun.spawn([process.execPath, program, ...args], { stdout: "pipe", stderr: "inherit" });
    });
    cleanups.push(() => {
      for (const child of children) child.kill("SIGKILL");
      return Promise.all(children.map((child) => child.exited));
    });
    /** Kills the first clients when they have made some calls. */
    const kill = async (me: number): Promise<void> => {
      const enough = 1 + random.below(callsPerClient);
      const lines = () => {
        try {
          return readFileSync(log(me), "utf8").split("\n").length;
        } catch {
          return 0;
        }
      };
      while (lines() < 2 * enough && children[me]?.exitCode === null) await Bun.sleep(2);
      children[me]?.kill("SIGKILL");
    };
    await Promise.all(Array.from({ length: killed }, (_, me) => kill(me)));
    const codes = await Promise.all(children.map((child) => child.exited));
    expect(codes.slice(killed)).toEqual(codes.slice(killed).map(() => 0));

    const adds: AddCall[] = [];
    const appends: AppendCall[] = [];
    const compareSets: CompareSetCall[] = [];
    for (let me = 0; me < clients; me++) {
      const notes = readNotes(log(me));
      for (const [i, [what, , start, a, b]] of notes.entries()) {
        if (what === "end") continue;
        const [, , answer, ended] = notes[i + 1] ?? [];
        const call = { start: Number(start), end: ended === undefined ? Number.POSITIVE_INFINITY : Number(ended) };
        const reply = answer === undefined ? undefined : String(answer);
        if (what === "add") adds.push({ ...call, sum: reply === undefined ? undefined : Number(reply) });
        else if (what === "append") appends.push({ ...call, token: String(a), read: reply });
        else compareSets.push({ ...call, expected: String(a), desired: String(b), answer: reply });
      }
    }
    await using store = await place.open();
    const [counter, value, register] = (await store.multiGet(["counter", "log", "register"])).map(text);
    const found = {
      seed,
      adds: checkAdds(adds, Number(counter)),
      appends: checkAppends(appends, value ?? ""),
      compareSets: checkCompareSets(compareSets, register ?? ""),
    };
    expect(found).toEqual({ seed, adds: [], appends: [], compareSets: [] });

    const all = [...adds, ...appends, ...compareSets];
    const unknown = all.filter(({ end }) => end === Number.POSITIVE_INFINITY).length;
    const dead = codes.filter((code) => code !== 0).length;
    console.log(
      `sample ${kind} of ${clients} processes: ${all.length} calls, ${dead} killed, ${unknown} calls unanswered`,
    );
    expect(all.length).toBeGreaterThan((clients - killed) * callsPerClient);
    expect(dead).toBeGreaterThan(0);
  },
);

/** The lines of a log; the last one may have been cut off. */
function readNotes(path: string): unknown[][] {
  const lines = readFileSync(path, "utf8").split("\n").slice(0, -1);
  return lines.map((line) => JSON.parse(line) as unknown[]);
}
