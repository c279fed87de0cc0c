import { expect, setDefaultTimeout, test } from "bun:test";
import { fileURLToPath } from "node:url";
import { StoreProcess } from "../../bench/harness/store-process.ts";
import { TCPStore } from "../../src/store/index.ts";

setDefaultTimeout(60_000);

const valueBytes = 8 << 20;
const values = 40;

test("a client that is stopped in the middle of a large reply delays no others, and gets all of it later", async () => {
  await using server = await StoreProcess.start({ C10D_STORE_SECRET: "" });
  const connect = () => TCPStore.connect({ host: "127.0.0.1", port: server.port, secret: null, timeout: "20s" });
  await using store = await connect();
  await store.set("big", new Uint8Array(valueBytes).fill(7));
  const storeModule = JSON.stringify(fileURLToPath(new URL("../../src/store/index.ts", import.meta.url)));
  const reader = Bun.spawn(
    [
      process.execPath,
      "-e",
      `const { TCPStore } = await import(${storeModule});
       const store = await TCPStore.connect({ host: "127.0.0.1", port: ${server.port}, secret: null });
       console.log("ready");
       await store.get("go");
       const got = await store.multiGet(Array(${values}).fill("big"));
       await store.set("got", String(got.filter((value) => value.length === ${valueBytes} && value.at(-1) === 7).length));`,
    ],
    { stdout: "pipe", stderr: "inherit" },
  );
  try {
    for await (const _ of reader.stdout) break;
    await store.get("big");
    const before = server.memoryMiB();
    await store.set("go", "1");
    await Bun.sleep(15);
    reader.kill("SIGSTOP");
    expect(await store.check(["got"])).toBe(false);

    let slowestMs = 0;
    for (let i = 1; i <= 300; i++) {
      const started = performance.now();
      expect(await store.add("n", 1)).toBe(i);
      if (i % 3 === 0) await store.set("other", new Uint8Array(100_000));
      slowestMs = Math.max(slowestMs, performance.now() - started);
    }
    const grownMiB = server.memoryMiB() - before;
    console.log(
      `sample stopped client: slowest call of another client ${slowestMs.toFixed(1)} ms, server grew ${grownMiB} MiB`,
    );
    expect(await store.check(["got"])).toBe(false);
    expect(slowestMs).toBeLessThan(1_000);
    // Values that wait to be sent are not copied, no matter how many there are.
    expect(grownMiB).toBeLessThan(100);

    // New clients are served as well.
    await using newcomer = await connect();
    expect(await newcomer.get("big")).toHaveLength(valueBytes);

    reader.kill("SIGCONT");
    expect(new TextDecoder().decode(await store.get("got"))).toBe(String(values));
  } finally {
    reader.kill("SIGKILL");
    await reader.exited;
  }
});
