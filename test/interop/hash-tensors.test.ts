import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { hashTensors } from "../../src/index.ts";
import { describeWithTorch } from "./torch.ts";

setDefaultTimeout(120_000);

const folder = mkdtempSync(join(tmpdir(), "c10d-hash-"));
afterAll(() => rmSync(folder, { recursive: true }));

// PyTorch's own `_hash_tensors` needs a GPU; what it combines is in a header.
const program = `
#include <c10/util/hash.h>
#include <fstream>
#include <iostream>
#include <iterator>
#include <vector>

int main(int count, char** files) {
  size_t all = 0;
  for (int i = 1; i < count; ++i) {
    std::ifstream file(files[i], std::ios::binary);
    const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
    for (const char byte : bytes) all = c10::hash_combine(all, c10::get_hash(byte, bytes.size()));
  }
  std::cout << all;
}
`;

function run(...cmd: string[]): string {
  const { exitCode, stdout, stderr } = Bun.spawnSync(cmd, { timeout: 100_000 });
  expect({ exitCode, stderr: stderr.toString() }).toEqual({ exitCode: 0, stderr: "" });
  return stdout.toString();
}

describeWithTorch("hashTensors", (python) => {
  const compiler = Bun.which("g++");
  if (compiler === null) console.log("skip hashTensors: no g++, which ./bootstrap deps installs");
  test.skipIf(compiler === null)(
    `is that of PyTorch's c10/util/hash.h${compiler === null ? " (no g++)" : ""}`,
    async () => {
      // Finds PyTorch without loading it.
      const find =
        "import importlib.util; print(importlib.util.find_spec('torch').submodule_search_locations[0], end='')";
      const include = join(run(python, "-c", find), "include");
      const source = join(folder, "hash.cc");
      const binary = join(dirname(source), "hash");
      await Bun.write(source, program);
      run(compiler ?? "", "-std=c++20", "-O1", `-I${include}`, "-o", binary, source);
      for (let i = 0; i < 5; i++) {
        const tensors = [1 + i, 70_000 * i].map((length) => {
          const data = new Uint8Array(length);
          for (let at = 0; at < length; at += 65_536) crypto.getRandomValues(data.subarray(at, at + 65_536));
          return data;
        });
        const files = tensors.map((_, at) => join(folder, String(at)));
        await Promise.all(tensors.map((data, at) => Bun.write(files[at] ?? "", data)));
        expect(String(hashTensors(tensors))).toBe(run(binary, ...files));
      }
    },
  );
});
