import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { CodeFolder, root } from "./code-folder.ts";

setDefaultTimeout(120_000);

// Compiles and runs the examples of docs/cuda.md, on the emulator of CUDA's driver.

const page = readFileSync(join(root, "docs/cuda.md"), "utf8");
const examples = Array.from(page.matchAll(/^```ts\n([\s\S]*?)^```/gm), ([, code = ""]) => code);
const expected = [
  "13.0 4\nFloat32Array(3) [ 1, 2, 3 ] [ 64, 64 ]",
  "true Float32Array(1) [ 1 ] Float32Array(1) [ 2 ]",
  "Float32Array(4) [ 1, 2, 3, 4 ]",
  "0 4096",
  "Float32Array(2) [ 3, 4 ]",
];
const driver = join(root, "build/release/nccl-emulator/libcuda.so.1");
/** One rank. */
const alone = { MASTER_ADDR: "127.0.0.1", MASTER_PORT: "0", RANK: "0", WORLD_SIZE: "1", LOCAL_RANK: "2" };
/** Ends a program with 1 if it has misused the driver. */
const check = `
import { dlopen } from "bun:ffi";
const { symbols } = dlopen(${JSON.stringify(driver)}, { cuemu_faults: { args: [], returns: "u64" } });
process.exitCode = Number(symbols.cuemu_faults());
`;

let folder: CodeFolder;
beforeAll(() => {
  folder = new CodeFolder(
    "cuda",
    examples.map((code, i) => [`${i}.ts`, code + check]),
    110_000,
  );
});
afterAll(() => folder[Symbol.dispose]());

test("the examples compile", async () => {
  expect(examples).toHaveLength(expected.length);
  expect(await folder.compileErrors()).toEqual([]);
});

test.each(expected.map((text, i) => [i, text] as const))("example %d runs", async (i, text) => {
  const { exitCode, stdout, stderr } = await folder.run([`${i}.ts`], {
    C10D_CUDA_LIBRARY: driver,
    C10D_NCCL_LIBRARY: join(root, "build/release/nccl-emulator/libnccl.so.2"),
    ...alone,
  });
  expect([stderr, stdout.trim(), exitCode]).toEqual(["", text, 0]);
});

test("options may be undefined also where undefined is no value of an optional property", async () => {
  using strict = new CodeFolder("cuda-strict", [
    [
      "consumer.ts",
      `import { cuda, type ProcessGroup } from "bun-c10d";
       export const made = ({ boundDevice: device }: ProcessGroup): readonly unknown[] => [
         cuda.from(new Float32Array(1), { device, stream: undefined }),
         cuda.foreign({ ptr: 1, byteLength: 4, dtype: "float32", device, shape: undefined }),
         new cuda.CudaStream({ device, priority: undefined }),
         new cuda.CudaEvent({ timing: undefined }),
         cuda.synchronize(device, { timeout: undefined }),
       ];`,
    ],
  ]);
  const compilerOptions = { exactOptionalPropertyTypes: true };
  strict.write("tsconfig.json", JSON.stringify({ extends: join(root, "tsconfig.json"), compilerOptions }));
  expect(await strict.compileErrors()).toEqual([]);
});

test("the page says that no GPU was there", () => {
  expect(page).toContain("**No GPU was available to run this on.**");
});
