import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fake from "../../src/backends/fake/plugin.ts";
import * as dist from "../../src/index.ts";
import { describeWithTorch, fixture } from "./torch.ts";

const folder = mkdtempSync(join(tmpdir(), "c10d-places-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** The keys of a store file under which a backend for CUDA tensors has written. */
async function markedKeys(path: string): Promise<string[]> {
  await using store = await dist.FileStore.open(path);
  const keys = await store.listKeys();
  return keys.filter((key) => key.endsWith("//cuda//0")).sort();
}

/** A backend that writes the key of the unique id of NCCL's first communicator. */
const marking: dist.BackendPlugin = {
  ...fake,
  name: "marking",
  devices: ["cuda"],
  anyDevice: true,
  async create(context) {
    await context.store.set("0", `rank ${context.rank} of ${context.size}`);
    return fake.create({ ...context, device: { type: "cuda", index: 0 } });
  },
};

describeWithTorch(
  "the place in the store of a backend for CUDA tensors, such as nccl, is that of PyTorch",
  (python) => {
    test.each(["marking", "cpu:gloo,cuda:marking"])("%s", async (backend) => {
      const name = backend.replace(/\W/g, "-");
      const [theirs, ours] = [join(folder, `torch-${name}`), join(folder, `bun-${name}`)];
      const { exitCode, stderr } = Bun.spawnSync([python, fixture("store_places.py"), backend, theirs], {
        env: { ...process.env, GLOO_SOCKET_IFNAME: "lo" },
      });
      expect(stderr.toString().includes("Error") ? stderr.toString() : exitCode).toBe(0);
      const container = dist.createContainer({ overrides: [marking] });
      const place = { init: `file://${ours}`, rank: 0, worldSize: 1, container };
      await dist.initProcessGroup({ backend, ...place });
      await dist.newGroup([0]);
      await dist.newGroup([0]);
      const own = await markedKeys(ours);
      await dist.destroyProcessGroup();
      expect(await markedKeys(theirs)).toEqual(own);
      expect(own.map((key) => key.replace(/^\//, ""))).toEqual([
        "default_pg/0//1//cuda//0",
        "default_pg/0//2//cuda//0",
        "default_pg/0//cuda//0",
      ]);
    });
  },
);
