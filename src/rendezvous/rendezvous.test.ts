import { afterEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { registerRendezvousHandler, rendezvous } from "../distributed/index.ts";
import { DistTimeoutError, InvalidArgumentError } from "../errors/index.ts";
import { HashStore, TCPStore, TCPStoreServer } from "../store/index.ts";
import type { Rendezvous, RendezvousOptions } from "./rendezvous-handler.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function freePort(): Promise<number> {
  await using server = await TCPStoreServer.listen({ host: "127.0.0.1", port: 0 });
  return server.port;
}

async function meet(url: string, options: RendezvousOptions = {}): Promise<Rendezvous> {
  const met = await rendezvous(url, { timeout: 5_000, ...options });
  cleanups.push(() => met.close?.());
  return met;
}

async function failure(url: string, options: RendezvousOptions = {}): Promise<Error> {
  const error = await rendezvous(url, { env: {}, timeout: 200, ...options }).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(Error);
  return error as Error;
}

function variables(rank: number, worldSize: number, port: number, more: Record<string, string> = {}) {
  return {
    env: {
      RANK: String(rank),
      WORLD_SIZE: String(worldSize),
      MASTER_ADDR: "127.0.0.1",
      MASTER_PORT: String(port),
      ...more,
    },
  };
}

async function worldSizeIsSet(port: number): Promise<void> {
  await using store = await TCPStore.connect({ host: "127.0.0.1", port, waitForWorkers: false, timeout: 10_000 });
  await store.get("bun-c10d/world_size");
}

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

describe("env://", () => {
  test("ranks meet, rank 0 hosts", async () => {
    const port = await freePort();
    const ranks = await Promise.all([2, 1, 0].map((rank) => meet("env://", variables(rank, 3, port))));
    expect(ranks.map(({ rank, worldSize }) => [rank, worldSize])).toEqual([
      [2, 3],
      [1, 3],
      [0, 3],
    ]);
    await ranks[0]?.store.set("k", "v");
    expect(text((await ranks[2]?.store.get("k")) ?? new Uint8Array())).toBe("v");
  });

  test("a launcher's store is used by all ranks, also across restarts with another world size", async () => {
    await using server = await TCPStoreServer.listen({ host: "127.0.0.1", port: 0 });
    for (const [attempt, worldSize] of [2, 3].entries()) {
      const more = { TORCHELASTIC_USE_AGENT_STORE: "True", TORCHELASTIC_RESTART_COUNT: String(attempt) };
      const options = (rank: number) => variables(rank, worldSize, server.port, more);
      const ranks = await Promise.all(Array.from({ length: worldSize }, (_, rank) => meet("env://", options(rank))));
      await ranks[0]?.store.set(`k${attempt}`, "v");
      expect(await ranks[1]?.store.get(`k${attempt}`)).toHaveLength(1);
    }
  });

  test.each(["RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"])("%s is missing or empty", async (name) => {
    for (const absent of [undefined, ""]) {
      const error = await failure("env://", { env: { ...variables(0, 1, 1).env, [name]: absent } });
      expect(error).toBeInstanceOf(InvalidArgumentError);
      const set = ["RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"].filter((each) => each !== name);
      expect(error.message).toBe(
        `Error initializing torch.distributed using env:// rendezvous: environment variable ${name} expected, but not set. ` +
          `${set[0]}, ${set[1]} and ${set[2]} are set; a launcher, such as c10d run, sets all of them`,
      );
      expect(error).toMatchObject({ code: "INVALID_ARGUMENT" });
    }
  });

  test.each<[Record<string, string>, RendezvousOptions, string]>([
    [{ RANK: "0" }, {}, "variable WORLD_SIZE expected, but not set, nor are MASTER_ADDR and MASTER_PORT. RANK is set;"],
    [
      { MASTER_ADDR: "a", MASTER_PORT: "1" },
      {},
      "variable RANK expected, but not set, nor is WORLD_SIZE. MASTER_ADDR and MASTER_PORT are set;",
    ],
    [
      { MASTER_PORT: "1" },
      { rank: 0, worldSize: 1 },
      "variable MASTER_ADDR expected, but not set. MASTER_PORT is set;",
    ],
  ])("an environment of %p alone", async (env, given, message) => {
    expect((await failure("env://", { env, ...given })).message).toContain(message);
  });

  test.each<[Record<string, string>, RendezvousOptions, string]>([
    [{ RANK: "2" }, {}, "RANK must be between 0 and 1 (WORLD_SIZE 2), got 2"],
    [{ RANK: "-1" }, {}, "RANK must be between 0 and 1 (WORLD_SIZE 2), got -1"],
    [{ RANK: "2" }, { worldSize: 1 }, "RANK must be between 0 and 0 (world size 1), got 2"],
    [{}, { rank: 2 }, "rank must be between 0 and 1 (WORLD_SIZE 2), got 2"],
    [{ WORLD_SIZE: "0" }, {}, "WORLD_SIZE must be at least 1, got 0"],
    [{ MASTER_PORT: "99999" }, {}, "MASTER_PORT must have value from 0 to 65535 but was 99999."],
  ])("the error of an invalid number in %p names its variable", async (env, given, message) => {
    const error = await failure("env://", { env: { ...variables(0, 2, 1).env, ...env }, ...given });
    expect(error).toMatchObject({ name: "InvalidArgumentError", message });
  });

  test("the error of a script without a launcher says how to start it", async () => {
    const error = await failure("env://", { env: {} });
    expect(error).toMatchObject({ name: "InvalidArgumentError", code: "NOT_LAUNCHED" });
    expect(error.message).toContain(
      "environment variable RANK expected, but not set, nor are WORLD_SIZE, MASTER_ADDR and MASTER_PORT: ",
    );
    expect((await failure("env://", { env: {}, rank: 0, worldSize: 1 })).message).toContain(
      "environment variable MASTER_ADDR expected, but not set, nor is MASTER_PORT: ",
    );
    const folder = mkdtempSync(join(tmpdir(), "not-launched-"));
    const program = `import * as dist from ${JSON.stringify(join(import.meta.dir, "../index.ts"))};
      await dist.initProcessGroup().catch((error) => console.log(error.code, error.message));`;
    writeFileSync(join(folder, "train.ts"), program);
    try {
      const run = (cwd: string, ...args: string[]) => {
        const env = { PATH: process.env.PATH ?? "", TMPDIR: folder };
        const { stdout, stderr } = Bun.spawnSync({ cmd: [process.execPath, ...args], cwd, env, timeout: 20_000 });
        return `${stdout}${stderr}`;
      };
      expect(run(folder, "train.ts")).toContain(
        ": train.ts was started without a launcher. Start its ranks with `bun c10d run -n 2 train.ts`, or by torchrun, mpirun or srun",
      );
      expect(run("/", join(folder, "train.ts"))).toContain(`Start its ranks with \`bun c10d run -n 2 `);
      expect(run(folder, "-e", program)).toContain(": this program was started without a launcher.");
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test("arguments and the URL override variables", async () => {
    const { env } = variables(7, 9, await freePort());
    expect(await meet("env://", { env, rank: 0, worldSize: 1 })).toMatchObject({ rank: 0, worldSize: 1 });
    expect(await meet("env://?rank=0&world_size=1", { env })).toMatchObject({ rank: 0, worldSize: 1 });
  });

  test("bad numbers", async () => {
    const bad: Record<string, string>[] = [
      { RANK: "one" },
      { RANK: "-1" },
      { RANK: "2" },
      { WORLD_SIZE: "0" },
      { WORLD_SIZE: "2.5" },
      { MASTER_PORT: "65536" },
    ];
    for (const more of bad) {
      expect(await failure("env://", variables(0, 2, 1, more))).toBeInstanceOf(InvalidArgumentError);
    }
  });

  test("rank 0 is absent: the error names host and port", async () => {
    const port = await freePort();
    const error = await failure("env://", variables(1, 2, port));
    expect(error).toBeInstanceOf(DistTimeoutError);
    expect(error).toMatchObject({ code: "CONNECT_TIMEOUT", details: { host: "127.0.0.1", port } });
    expect(error.message).toContain(`127.0.0.1:${port}`);
  });

  test("others are absent: rank 0 reports how many joined", async () => {
    const error = await failure("env://", { ...variables(0, 3, await freePort()), timeout: 1_000 });
    expect(error).toBeInstanceOf(DistTimeoutError);
    expect(error.message).toContain("1/3 clients joined");
  });
});

describe("tcp://", () => {
  test.each(["True", "1", "on"])("TORCHELASTIC_USE_AGENT_STORE=%s: rank 0 does not host the store", async (on) => {
    await using server = await TCPStoreServer.listen({ host: "127.0.0.1", port: 0 });
    const { env } = variables(0, 1, server.port, { TORCHELASTIC_USE_AGENT_STORE: on });
    const url = `tcp://127.0.0.1:${server.port}?rank=0&world_size=1`;
    expect(await meet(url, { env })).toMatchObject({ rank: 0, worldSize: 1 });
    const wrong = { ...env, TORCHELASTIC_USE_AGENT_STORE: "maybe" };
    expect((await failure(url, { env: wrong })).message).toContain("TORCHELASTIC_USE_AGENT_STORE must be one of");
  });

  test("ranks meet", async () => {
    const port = await freePort();
    const url = (rank: number) => `tcp://127.0.0.1:${port}?rank=${rank}&world_size=2`;
    const [first, second] = await Promise.all([meet(url(0)), meet(url(1))]);
    await second.store.set("k", "v");
    expect(text(await first.store.get("k"))).toBe("v");
  });

  test("rank and world size as arguments", async () => {
    const url = `tcp://localhost:${await freePort()}`;
    expect(await meet(url, { rank: 0, worldSize: 1 })).toMatchObject({ rank: 0, worldSize: 1 });
  });

  test.each([
    ["tcp://127.0.0.1?rank=0&world_size=1", "tcp:// rendezvous: port number missing"],
    ["tcp://127.0.0.1:1?world_size=1", "tcp:// rendezvous: rank parameter missing: give initProcessGroup() rank"],
    ["tcp://127.0.0.1:1?rank=0", "tcp:// rendezvous: world size parameter missing"],
    ["tcp://127.0.0.1:99999?rank=0&world_size=1", "port must have value from 0 to 65535 but was 99999."],
    ["tcp://127.0.0.1:1?rank=3&world_size=2", "rank must be between 0 and 1"],
    ["tcp://127.0.0.1:1?rank=x&world_size=2", "rank must be an integer"],
  ])("%s", async (url, message) => {
    const error = await failure(url);
    expect(error).toBeInstanceOf(InvalidArgumentError);
    expect(error.message).toContain(message);
  });

  test("arguments that the URL has already", async () => {
    const error = await failure("tcp://127.0.0.1:1?rank=0&world_size=1", { rank: 0 });
    expect(error).toBeInstanceOf(InvalidArgumentError);
    expect(error.message).toContain("has node-specific arguments(rank, world_size) already.");
  });
});

describe("the world size", () => {
  test.each([
    [3, 2],
    [2, 3],
  ])("rank 0 has %d, rank 1 has %d: both report it", async (first, second) => {
    const port = await freePort();
    const started = performance.now();
    const meeting = rendezvous("env://", { ...variables(0, first, port), timeout: 10_000 });
    const outcomes = await Promise.allSettled([
      meeting,
      // Rank 0 is the one that sets the world size: it waits for the others, rank 1 would not.
      worldSizeIsSet(port).then(() => rendezvous("env://", { ...variables(1, second, port), timeout: 10_000 })),
    ]);
    for (const outcome of outcomes) {
      const { reason } = outcome as PromiseRejectedResult;
      expect(reason).toBeInstanceOf(InvalidArgumentError);
      expect(reason.code).toBe("WORLD_SIZE_MISMATCH");
      expect(reason.message).toContain(`rank 0 has ${first}, rank 1 has ${second}`);
    }
    expect(performance.now() - started).toBeLessThan(3_000);
  });
});

describe("handlers", () => {
  test("a custom scheme", async () => {
    const store = new HashStore();
    registerRendezvousHandler("memory", async (url, { rank = 0, worldSize = 1 }) => ({
      store,
      rank,
      worldSize: worldSize + Number(url.searchParams.get("more")),
    }));
    expect(await rendezvous("memory://?more=2", { rank: 1 })).toEqual({ store, rank: 1, worldSize: 3 });
    expect(() => registerRendezvousHandler("memory", async () => ({ store, rank: 0, worldSize: 1 }))).toThrow(
      "Rendezvous handler for memory:// already registered",
    );
    expect(() => registerRendezvousHandler("Not a scheme", async () => ({ store, rank: 0, worldSize: 1 }))).toThrow(
      InvalidArgumentError,
    );
  });

  test("a handler that does not finish times out, and its late rendezvous is closed", async () => {
    const late = Promise.withResolvers<Rendezvous>();
    registerRendezvousHandler("endless", () => late.promise);
    const error = await failure("endless://", { timeout: 50 });
    expect(error).toMatchObject({ code: "CONNECT_TIMEOUT", details: { timeoutMs: 50 } });
    const closed = Promise.withResolvers<void>();
    late.resolve({ store: new HashStore(), rank: 0, worldSize: 1, close: async () => closed.resolve() });
    await closed.promise;
  });

  test.each([[undefined], [{}], [{ store: new HashStore(), rank: "0", worldSize: 1 }]])(
    "a handler must return a rendezvous: %p",
    async (met) => {
      const scheme = `bad${crypto.randomUUID().slice(0, 8)}`;
      registerRendezvousHandler(scheme, async () => met as unknown as Rendezvous);
      expect((await failure(`${scheme}://`)).message).toContain("must resolve to { store, rank, worldSize }");
    },
  );

  test("unknown schemes and bad arguments", async () => {
    expect((await failure("nowhere://")).message).toContain("No rendezvous handler for nowhere://");
    expect(await failure("no url")).toBeInstanceOf(InvalidArgumentError);
    expect((await failure(5 as unknown as string)).message).toContain("must be a string, got number 5");
    expect((await failure("localhost:29500")).message).toEndWith("; did you mean tcp://localhost:29500?");
    expect((await failure("env://", { rank: 1.5 })).message).toContain("`rank` must be an integer.");
    expect((await failure("env://", { worldSize: Number.NaN })).message).toContain("`worldSize` must be an integer.");
  });
});
