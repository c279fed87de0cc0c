import { describe, test } from "bun:test";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** A PyTorch that tests run with. */
interface Installation {
  /** Variable that names another Python to use. */
  readonly variable: string;
  /** Path of the Python that `command` installs, from the root of the repository. */
  readonly path: string;
  readonly command: string;
  /** Variable that makes tests fail without it. */
  readonly required: string;
}

/** The version that most tests are about. */
const usual: Installation = {
  variable: "C10D_TORCH_PYTHON",
  path: ".tools/torch/bin/python",
  command: "./bootstrap torch",
  required: "C10D_REQUIRE_TORCH",
};

/** A newer version, with what its debug front end needs. */
const newer: Installation = {
  variable: "C10D_TORCH_214_PYTHON",
  path: ".tools/torch-2.14/bin/python",
  command: "./bootstrap torch-2.14",
  required: "C10D_REQUIRE_TORCH_214",
};

/** The Python of an installation, if it is there. */
function pythonOf({ variable, path }: Installation): string | undefined {
  const chosen = process.env[variable] || fileURLToPath(new URL(`../../${path}`, import.meta.url));
  return existsSync(chosen) ? chosen : undefined;
}

/** A Python with PyTorch: `C10D_TORCH_PYTHON`, or else the one of `./bootstrap torch`. */
export function torchPython(): string | undefined {
  return pythonOf(usual);
}

/** Fixtures of this folder. */
export const fixture = (name: string): string => fileURLToPath(new URL(`fixtures/${name}`, import.meta.url));

/**
 * Tests that need PyTorch. Without it they are skipped with a message, or fail if `C10D_REQUIRE_TORCH=1`.
 */
export function describeWithTorch(title: string, body: (python: string) => void): void {
  describeWith(usual, title, body);
}

/** The same for PyTorch 2.14 of `./bootstrap torch-2.14`, and `C10D_REQUIRE_TORCH_214`. */
export function describeWithTorch214(title: string, body: (python: string) => void): void {
  describeWith(newer, title, body);
}

function describeWith(installation: Installation, title: string, body: (python: string) => void): void {
  const { variable, path, command, required } = installation;
  const python = pythonOf(installation);
  if (python !== undefined) {
    describe(title, () => body(python));
    return;
  }
  const reason = `no PyTorch: ${process.env[variable] || path} is not there; ${command} installs it`;
  if (process.env[required] === "1") {
    test(title, () => {
      throw new Error(`${required}=1, but ${reason}`);
    });
    return;
  }
  console.log(`skip ${title}: ${reason}`);
  test.skip(`${title} (skipped: ${reason})`, () => {});
}
