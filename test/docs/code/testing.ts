import { readFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "../code-folder.ts";

const page = readFileSync(join(root, "docs/testing.md"), "utf8");
export const blocks = Array.from(page.matchAll(/^```ts\n([\s\S]*?)^```/gm), ([, code = ""]) => code);
export const used = new Set<string>();

/** The example that contains this text. */
function block(text: string): string {
  const [found, ...more] = blocks.filter((code) => code.includes(text));
  if (found === undefined || more.length > 0)
    throw new Error(`docs/testing.md must have exactly one example with ${text}`);
  used.add(found);
  return found;
}

const inTest = (name: string, code: string): string => `
  import { expect, test } from "bun:test";
  import { spawnRanks } from "bun-c10d/testing";
  const file = new URL("./five-ops.ts", import.meta.url);
  void file;
  test("${name}", async () => {
    ${code}
  }, 60_000);
`;

export const files = Object.entries({
  "use-fake.ts": block("fakeInPlaceOf"),
  "application.test.ts": `
    import { expect, test } from "bun:test";
    import * as dist from "bun-c10d";
    import { localRanks } from "bun-c10d/testing";
    test("asks for Gloo, and runs without it", async () => {
      const sums = await localRanks(3, async ({ store, rank, worldSize }) => {
        await using group = await dist.initProcessGroup({ backend: "gloo", store, rank, worldSize });
        const sum = Float32Array.of(rank);
        const work = group.allReduce(sum);
        // Gloo's would block here: only the fake backend knows that the ranks share a thread.
        const refusal = await Promise.try(() => work.wait()).then(() => undefined, ({ code }) => code);
        await work;
        return [sum[0], refusal];
      }, { init: false });
      expect(sums.map(([sum]) => sum)).toEqual([3, 3, 3]);
      expect(sums[0]?.[1]).toBe("WAIT_WOULD_DEADLOCK");
    });
  `,
  "average.test.ts": block("average.test.ts"),
  "late.test.ts": block("late.test.ts"),
  "sum-rank.ts": block("almost done"),
  "sum.test.ts": inTest("a sum", block("args: { factor: 2 }")),
  "five-ops.ts": `
    import * as dist from "bun-c10d";
    export default async (): Promise<void> => {
      await using _group = await dist.initProcessGroup({ backend: "gloo" });
      for (let op = 1; op <= 5; op++) await dist.allReduce(new Float32Array(4));
    };
  `,
  "faults.test.ts": inTest("faults", block("kill rank 2 before op 5")),
  // The tests of examples/custom-backend run the suite as it is called here; compiling it is enough.
  "suite.ts": block("testBackend(plugin, { worldSizes: [1, 2, 3] })"),
  "device.test.ts": block("spawn: false, memory })"),
  "card-memory.ts": block("const memory: SuiteMemory"),
  "card.ts": `
    import { emulatedDevice } from "${join(root, "src/testing/fixtures/emulated-memory.ts")}";
    export function openCard(index: number) {
      const device = emulatedDevice(index);
      return {
        malloc: (byteLength: number): number => device.allocate(byteLength),
        copyIn: (address: number, bytes: Uint8Array): void => device.write(address, bytes),
        copyOut: (address: number, byteLength: number): Uint8Array => device.read(address, byteLength),
        free: (address: number): void => device.free(address),
        close: (): void => {},
      };
    }
  `,
  "card-backend.ts": `export { cuda as default } from "${join(root, "src/testing/fixtures/cuda-emulator.ts")}";`,
  "store.test.ts": block("testStore("),
  "my-store.ts": `
    import { HashStore } from "bun-c10d";
    export const MyStore = { connect: async (_host: string) => new HashStore() };
  `,
  "my-backend.ts": `export { default } from "${join(root, "examples/custom-backend/sockets.ts")}";`,
});
