import { describe, test } from "bun:test";
import { fileURLToPath } from "node:url";

/** NVIDIA's libnccl.so.2: `C10D_REAL_NCCL`, or else the one of `./bootstrap nccl`. */
export function realLibrary(): string | undefined {
  const chosen = process.env.C10D_REAL_NCCL;
  if (chosen) return chosen;
  const root = fileURLToPath(new URL("../../.tools/nccl", import.meta.url));
  const pattern = new Bun.Glob("lib/python3*/site-packages/nvidia/nccl/lib/libnccl.so.2");
  try {
    for (const path of pattern.scanSync({ cwd: root, absolute: true })) return path;
  } catch {
    // There is no such folder.
  }
  return undefined;
}

/** Tests that need it. Without it they are skipped with a message, or fail if `C10D_REQUIRE_NCCL=1`. */
export function describeWithLibrary(title: string, body: (path: string) => void): void {
  const path = realLibrary();
  if (path !== undefined || process.env.C10D_REQUIRE_NCCL === "1") {
    describe(title, () => body(path ?? ".tools/nccl (run ./bootstrap nccl)"));
    return;
  }
  console.log(`skip ${title}: NVIDIA's libnccl is not installed (./bootstrap nccl)`);
  describe.skip(title, () => {
    test("needs libnccl", () => {});
  });
}
