import { expect, setDefaultTimeout, test } from "bun:test";
import { StoreCollectives } from "../../src/control/index.ts";
import { TCPStore, TCPStoreServer } from "../../src/store/index.ts";
import { describeWithTorch, fixture } from "./torch.ts";

setDefaultTimeout(60_000);

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const limit = { timeout: "30s" };

describeWithTorch("control collectives", (python) => {
  test("of two Bun ranks and a rank of PyTorch's _StoreCollectives", async () => {
    await using server = await TCPStoreServer.listen({ host: "127.0.0.1", port: 0, secret: null });
    const program = Bun.spawn([python, fixture("control_rank.py"), String(server.port)], {
      env: { ...process.env, TORCH_CPP_LOG_LEVEL: "ERROR" },
      stdin: "ignore",
      stdout: "pipe",
      stderr: "inherit",
      timeout: 50_000,
    });
    const terms = { host: "127.0.0.1", port: server.port, isMaster: false, secret: null };
    await using stores = await TCPStore.connect(terms);
    await using others = await TCPStore.connect(terms);
    const first = new StoreCollectives(stores, 0, 3);
    const last = new StoreCollectives(others, 2, 3);
    const both = <T>(call: (each: StoreCollectives, rank: number) => Promise<T>) =>
      Promise.all([call(first, 0), call(last, 2)]);

    await both((each) => each.barrier("barrier", limit));
    expect(await both((each, rank) => each.allSum("sum", rank + 1, limit))).toEqual([24, 24]);
    await last.broadcastSend("broadcast", "from Bun");
    expect((await both((each) => each.broadcastRecv("broadcast back", limit))).map(text)).toEqual([
      "from Python",
      "from Python",
    ]);
    const [, gathered] = await Promise.all([first.gatherSend("gather", "b0"), last.gatherRecv("gather", "b2", limit)]);
    expect(gathered.map(text)).toEqual(["b0", "p1", "b2"]);
    await both((each, rank) => each.gatherSend("gather back", `b${rank}`));
    expect(text(await first.scatterSend("scatter", ["t0", "t1", "t2"]))).toBe("t0");
    expect(text(await last.scatterRecv("scatter", limit))).toBe("t2");
    expect((await both((each) => each.scatterRecv("scatter back", limit))).map(text)).toEqual(["s0", "s2"]);
    for (const all of await both((each, rank) => each.allGather("all", `b${rank}`, limit))) {
      expect(all.map(text)).toEqual(["b0", "p1", "b2"]);
    }
    const theirs = JSON.parse(await new Response(program.stdout).text()) as Record<string, string>;
    expect(theirs).toMatchObject({
      allSum: 24,
      broadcast: "from Bun",
      gather: ["b0", "p1", "b2"],
      scatter: "t1",
      scatterBack: "s1",
      allGather: ["b0", "p1", "b2"],
    });
    // The same texts on both sides, up to what the store says.
    const reuse = await first.barrier("barrier").catch(String);
    expect(theirs.reuse).toContain("Key barrier has already been used.");
    expect(reuse).toContain("Key barrier has already been used.");
    expect(theirs.late).toStartWith("barrier failed -- missing ranks: 0, 2, ");
    await expect(first.barrier("late", { timeout: 300 })).rejects.toThrow("barrier failed -- missing ranks: 2, ");
    expect(await program.exited).toBe(0);
  });
});
