import { expect, setDefaultTimeout, test } from "bun:test";
import { spawnRanks } from "../../testing/index.ts";
import { describeEmulator, emulatorEnv } from "./fixtures/emulator.ts";
import type { MistakesArgs } from "./fixtures/mistakes.ts";

setDefaultTimeout(60_000);

interface Outcome {
  readonly failures: readonly string[];
  readonly bound?: { readonly index: number };
}

async function outcomes(args: (rank: number) => MistakesArgs, version?: string): Promise<readonly [Outcome, Outcome]> {
  const file = new URL("./fixtures/mistakes.ts", import.meta.url);
  const all = [args(0), args(1)];
  const ranks = await spawnRanks(2, file, { args: all, env: emulatorEnv(version) });
  for (const { error, exitCode } of ranks) {
    expect({ error: error?.stack, exitCode }).toEqual({ error: undefined, exitCode: 0 });
  }
  return ranks.map(({ value }) => value) as [Outcome, Outcome];
}

const make = "cuda.setDevice(group.boundDevice), or make its tensors with { device: group.boundDevice }";
const each = 'make the group with a backend for each device, for instance "cpu:gloo,cuda:nccl"';

describeEmulator("mistakes with devices, on the emulators", () => {
  test("the remedy for a tensor that is not on the device of the group is named", async () => {
    // Both ranks make tensors where neither is bound to.
    const ranks = await outcomes((rank) => ({ deviceId: `cuda:${rank}`, current: 2 }));
    for (const [rank, { failures }] of ranks.entries()) {
      const has = `(it has cuda:${rank})`;
      const elsewhere = (index: number) =>
        `group "0" has no backend for cuda:${index} tensors ${has}: it is bound to cuda:${rank}, which deviceId does not make the current device: call ${make}`;
      const host = `group "0" has no backend for cpu tensors ${has}: copy the tensor to a device by cuda.from(), or ${each}`;
      expect(failures).toEqual([
        "none",
        `allReduce: ${elsewhere(2)}`,
        `allReduce: ${host}`,
        `registerMemory: ${host}`,
        `registerMemory: ${elsewhere(3)}`,
      ]);
    }
  });

  test('"cuda" is the current device, and a number a device', async () => {
    const [first, second] = await outcomes((rank) => (rank === 0 ? { deviceId: "cuda", current: 2 } : { deviceId: 1 }));
    expect([first.bound?.index, second.bound?.index]).toEqual([2, 1]);
  });

  test.each([undefined, "2.18.5"])(
    "one device per rank is what ranks on one device are told first: %s",
    async (version) => {
      for (const args of [{}, { deviceId: "cuda:0" }]) {
        for (const { failures } of await outcomes(() => args, version)) {
          const text = failures.join("\n");
          const own = text.indexOf('deviceId: "cuda:" + LOCAL_RANK');
          expect(own).toBeGreaterThan(0);
          expect(text.search(/NCCL_MULTI_RANK_GPU_ENABLE|Duplicate GPU detected/)).toBeGreaterThan(own);
        }
      }
    },
  );
});
