import { expect, setDefaultTimeout, test } from "bun:test";
import { DistNetworkError, DistTimeoutError } from "../../src/errors/index.ts";
import { TCPStore, TCPStoreServer } from "../../src/store/index.ts";
import { CuttingRelay } from "./cutting-relay.ts";
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
const callsPerClient = full ? 5_000 : 400;
const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

test.each([
  ["PyTorch's open protocol", null],
  ["a secret", "s"],
])("add, compareSet and append of 16 clients, some cut off midway, are linearizable, with %s", async (_, secret) => {
  const seed = crypto.getRandomValues(new Uint32Array(1))[0] ?? 0;
  const random = new Random(seed);
  await using server = await TCPStoreServer.listen({ host: "127.0.0.1", port: 0, secret });
  using relay = new CuttingRelay(server.port, random, 6_000);
  const adds: AddCall[] = [];
  const appends: AppendCall[] = [];
  const compareSets: CompareSetCall[] = [];

  /** Half the clients use the relay; when they are cut off, their stores reconnect by themselves. */
  async function client(me: number): Promise<void> {
    const port = me % 2 === 0 ? server.port : relay.port;
    await using store = await TCPStore.connect({ host: "127.0.0.1", port, secret, timeout: 10_000 });
    let believed = "";
    const attempt = async <T>(call: () => Promise<T>): Promise<T | undefined> => {
      try {
        return await call();
      } catch (error) {
        if (!(error instanceof DistNetworkError)) throw error;
        expect(me % 2).toBe(1);
        // A call that was not even sent certainly has no effect.
        expect(error.code).toBeOneOf(["OUTCOME_UNKNOWN", "CONNECTION_LOST"]);
        return undefined;
      }
    };
    for (let i = 0; i < callsPerClient; i++) {
      const start = performance.now();
      const endOf = (answer: unknown) => (answer === undefined ? Number.POSITIVE_INFINITY : performance.now());
      const kind = random.below(3);
      if (kind === 0) {
        const sum = await attempt(() => store.add("counter", 1));
        adds.push({ start, end: endOf(sum), sum });
      } else if (kind === 1) {
        const token = `<${me}:${i}>;`;
        const append = async () => {
          const [, value] = await Promise.all([store.append("log", token), store.get("log")]);
          return text(value);
        };
        const read = await attempt(append);
        appends.push({ start, end: endOf(read), token, read });
      } else {
        const [expected, desired] = [believed, `${me}:${i}`];
        const value = await attempt(() => store.compareSet("register", expected, desired));
        const answer = value && text(value);
        compareSets.push({ start, end: endOf(answer), expected, desired, answer });
        // Without a reply it does not know the value; the next refusal returns it.
        believed = answer ?? believed;
      }
    }
  }

  await Promise.all(Array.from({ length: clients }, (_, me) => client(me)));
  await using reader = await TCPStore.connect({ host: "127.0.0.1", port: server.port, secret });
  const [counter, log, register] = (await reader.multiGet(["counter", "log", "register"])).map(text);
  const found = {
    seed,
    adds: checkAdds(adds, Number(counter)),
    appends: checkAppends(appends, log ?? ""),
    compareSets: checkCompareSets(compareSets, register ?? ""),
  };
  expect(found).toEqual({ seed, adds: [], appends: [], compareSets: [] });

  const all = [...adds, ...appends, ...compareSets];
  const unknown = all.filter(({ end }) => end === Number.POSITIVE_INFINITY).length;
  console.log(
    `sample linearizability: ${all.length} calls, ${relay.cuts} connections cut, ${unknown} calls unanswered`,
  );
  expect(all).toHaveLength(clients * callsPerClient);
  expect(compareSets.filter(({ answer, desired }) => answer === desired).length).toBeGreaterThan(callsPerClient / 10);
  expect(unknown).toBeGreaterThan(clients);
});

test("a write that is cut off gets an error, a read is retried, and nothing waits forever", async () => {
  await using server = await TCPStoreServer.listen({ host: "127.0.0.1", port: 0, secret: null });
  using relay = new CuttingRelay(server.port, new Random(7), 300);
  for (let round = 0; round < 30; round++) {
    const outcome = await TCPStore.connect({ host: "127.0.0.1", port: relay.port, secret: null, timeout: 5_000 }).then(
      async (store) => {
        try {
          for (;;) {
            await store.add("n", 1);
            await store.get("absent", { timeout: 1 }).catch((error: unknown) => {
              if (!(error instanceof DistTimeoutError)) throw error;
            });
          }
        } catch (error) {
          return error;
        } finally {
          await store.close();
        }
      },
    );
    expect(outcome).toBeInstanceOf(DistNetworkError);
  }
});
