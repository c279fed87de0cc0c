import { describe, test } from "bun:test";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

const installed = fileURLToPath(new URL("../../.tools/torch/bin/python", import.meta.url));

/** A Python with PyTorch: `C10D_TORCH_PYTHON`, or else the one of `./bootstrap torch`. */
export function torchPython(): string | undefined {
  const chosen = process.env.C10D_TORCH_PYTHON || installed;
  return existsSync(chosen) ? chosen : undefined;
}

/** Fixtures of this folder. */
export const fixture = (name: string): string => fileURLToPath(new URL(`fixtures/${name}`, import.meta.url));

/**
 * Tests that need PyTorch. Without it they are skipped with a message, or fail if `C10D_REQUIRE_TORCH=1`.
 */
export function describeWithTorch(title: string, body: (python: string) => void): void {
  const python = torchPython();
  if (python !== undefined) {
    describe(title, () => body(python));
    return;
  }
  const reason = `no PyTorch: ${process.env.C10D_TORCH_PYTHON || ".tools/torch/bin/python"} is not there; ./bootstrap torch installs it`;
  if (process.env.C10D_REQUIRE_TORCH === "1") {
    test(title, () => {
      throw new Error(`C10D_REQUIRE_TORCH=1, but ${reason}`);
    });
    return;
  }
  console.log(`skip ${title}: ${reason}`);
  test.skip(`${title} (skipped: ${reason})`, () => {});
}
