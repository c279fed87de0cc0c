import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { emulatedPython } from "../gpu/emulator.ts";
import { describeWithTorch214 } from "../interop/torch.ts";
import { CodeFolder, root } from "./code-folder.ts";

setDefaultTimeout(120_000);

// Compiles and runs the programs of these pages, on the emulators of CUDA and NCCL.

const emulator = readFileSync(join(root, "test/nccl-emulator/README.md"), "utf8");
const backend = readFileSync(join(root, "src/backends/nccl/README.md"), "utf8");
const joining = readFileSync(join(root, "docs/join-a-pytorch-job.md"), "utf8");

/** The first block of a language in a text. */
function block(text: string, language: string): string {
  const code = new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\``, "m").exec(text)?.[1];
  if (code === undefined) throw new Error(`there is no ${language} block`);
  return code;
}

const mixed = joining.split(/^## /m).find((text) => text.startsWith("Over NCCL\n")) ?? "";
const programs = { "sum.ts": block(backend, "ts"), "try.ts": block(emulator, "ts"), "mixed.ts": block(mixed, "ts") };
const printed = block(backend, "console").trim().split("\n").slice(1);

let folder: CodeFolder;
beforeAll(() => {
  folder = new CodeFolder("nccl", Object.entries(programs), 60_000);
});
afterAll(() => folder[Symbol.dispose]());

/** The variables that the page exports, as a shell at the root of the package sets them. */
function exported(): Record<string, string> {
  const lines = Array.from(block(emulator, "sh").matchAll(/^export (\w+)="([^"]*)"$/gm));
  return Object.fromEntries(lines.map(([, name = "", value = ""]) => [name, value.replace("$PWD", root)]));
}

test("the programs compile", async () => {
  expect(await folder.compileErrors()).toEqual([]);
});

test.each([
  ["sum.ts", printed],
  ["try.ts", printed],
  ["mixed.ts", ["[rank 0] rank 0, Bun: 3", "[rank 1] rank 1, Bun: 3"]],
])("%s runs by the commands of the emulators' page, without faults", async (name, lines) => {
  expect(block(emulator, "sh")).toContain("\nNCCL_EMULATOR_PRINT_FAULTS=1 c10d run -n 2 sum.ts\n");
  const env = { ...exported(), NCCL_EMULATOR_PRINT_FAULTS: "1" };
  expect(Object.keys(env)).toHaveLength(3);
  const end = await folder.run([join(root, "src/cli/main.ts"), "run", "-n", "2", name], env);
  expect([end.stderr, end.lines, end.exitCode]).toEqual(["", [...lines], 0]);
});

describeWithTorch214("docs/join-a-pytorch-job.md, over NCCL on the emulators", (python) => {
  test.each([0, 1])("the rank of Python is rank %d", async (rank) => {
    folder.write("mixed.py", block(mixed, "python"));
    const words = emulatedPython(python).map((word) => `'${word}'`);
    const script = `if [ "$RANK" = ${rank} ]; then exec ${words.join(" ")} mixed.py; fi\nexec '${process.execPath}' mixed.ts\n`;
    folder.write("mixed.sh", script);
    const launcher = [join(root, "src/cli/main.ts"), "run", "-n", "2", "--torch-compat", "--no-bun", "sh", "mixed.sh"];
    const end = await folder.run(launcher, { ...exported(), C10D_STORE_SECRET: "", TORCH_CPP_LOG_LEVEL: "ERROR" });
    const names = rank === 0 ? ["Python", "Bun"] : ["Bun", "Python"];
    expect([end.lines, end.exitCode, end.exitCode === 0 ? "" : end.stderr]).toEqual([
      names.map((name, i) => `[rank ${i}] rank ${i}, ${name}: 3`),
      0,
      "",
    ]);
  });
});
