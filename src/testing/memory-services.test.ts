import { describe, expect, test } from "bun:test";
import * as dist from "../index.ts";
import { DeviceTensor, SoftwareDevice, softwareDevice } from "./fixtures/software-device.ts";
import { localRanks } from "./ranks/local-ranks.ts";

/** Runs two ranks in this thread, each with a tensor on a device of its own. */
async function withTensors(
  body: (group: dist.ProcessGroup, tensor: DeviceTensor) => Promise<unknown>,
  settings: Readonly<Record<string, string>> = {},
): Promise<void> {
  const plugin = softwareDevice("software-device-memory", settings);
  await localRanks(
    2,
    async ({ rank, store, worldSize }) => {
      const container = dist.createContainer({ overrides: [plugin] });
      const place = { backend: plugin.name, deviceId: `cuda:${rank + 1}`, container, store, rank, worldSize };
      const group = await dist.initProcessGroup(place);
      using tensor = new DeviceTensor(new SoftwareDevice(rank + 1), 4);
      await body(group, tensor);
      await dist.destroyProcessGroup();
    },
    { init: false },
  );
}

const failure = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => "it succeeded",
    (error) => error,
  );

describe("memory of a device", () => {
  test("is registered until that is disposed of", async () => {
    await withTensors(async (group, { tensor }) => {
      {
        await using registered = await group.registerMemory(tensor);
        expect(registered).toBeInstanceOf(dist.RegisteredMemory);
        expect(String(await failure(group.registerMemory(tensor)))).toContain("the memory is registered already");
      }
      // A failed service fails the group, as a failed op does, unless it is refused: here it was.
      const again = await group.registerMemory(tensor);
      await again.deregister();
      await again.deregister();
    });
  });

  test("of the other ranks is found by a window, while it is open", async () => {
    const own: number[] = [];
    await withTensors(async (group, { tensor, address }) => {
      own[group.rank] = address;
      const window = await group.openWindow(tensor, { timeout: "5s" });
      await group.barrier();
      expect([window.addressOf(0), window.addressOf(1)]).toEqual(own);
      expect(() => window.addressOf(2)).toThrow("2 is not a rank of the group, which has ranks 0 to 1");
      await window.close();
      expect(window.addressOf(0)).toBe(0);
      await window.close();
    });
  });

  test("what ends after its group has no effect", async () => {
    const left: (dist.RegisteredMemory | dist.MemoryWindow)[] = [];
    await withTensors(async (group, { tensor }) => {
      left.push(await group.registerMemory(tensor), await group.openWindow(tensor));
    });
    for (const each of left) await each[Symbol.asyncDispose]();
    expect(left).toHaveLength(4);
  });

  test("host memory, and options that do not exist, are refused", async () => {
    await withTensors(async (group, { tensor }) => {
      expect(await failure(group.registerMemory(tensor, { timout: 1 } as never))).toBeInstanceOf(
        dist.InvalidArgumentError,
      );
      expect(String(await failure(group.registerMemory(new Float32Array(1))))).toContain("no backend for cpu tensors");
    });
  });

  test("a backend without the service refuses", async () => {
    await withTensors(
      async (group, { tensor }) => {
        for (const refused of [group.registerMemory(tensor), group.openWindow(tensor)]) {
          const error = await failure(refused);
          expect(error).toBeInstanceOf(dist.UnsupportedOperationError);
          expect(String(error)).toContain('backend "software-device-memory" does not support it');
        }
      },
      { services: "0" },
    );
  });
});
