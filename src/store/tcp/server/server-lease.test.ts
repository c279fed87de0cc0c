import { afterEach, expect, test } from "bun:test";
import { leaseServer } from "./server-lease.ts";

const RealWorker = globalThis.Worker;
let workers = 0;
let ended = 0;

class CountedWorker extends RealWorker {
  constructor(...of: ConstructorParameters<typeof RealWorker>) {
    super(...of);
    workers++;
    this.addEventListener("close", () => {
      ended++;
    });
  }
}

afterEach(() => {
  globalThis.Worker = RealWorker;
  workers = ended = 0;
});

const within = (ms: number) => ({ began: performance.now(), deadline: performance.now() + ms, ms });

test("one Worker waits for a port that is taken", async () => {
  globalThis.Worker = CountedWorker;
  const earlier = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = earlier;
  const leased = leaseServer({ host: "127.0.0.1", port, secret: null }, false, within(10_000));
  await Bun.sleep(150);
  earlier.stop(true);
  const lease = await leased;
  expect([lease.port, workers]).toEqual([port, 1]);
  await lease.release(0);
});

test("a Worker that finds the port taken until the deadline is terminated", async () => {
  globalThis.Worker = CountedWorker;
  const earlier = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = earlier;
  const error = await leaseServer({ host: "127.0.0.1", port, secret: null }, false, within(60)).catch(
    (reason: unknown) => reason,
  );
  expect(error).toMatchObject({ code: "PORT_IN_USE", details: { port } });
  while (ended < workers) await Bun.sleep(5);
  expect(workers).toBe(1);
  earlier.stop(true);
});
