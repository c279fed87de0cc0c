import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describeWithTorch } from "../interop/torch.ts";

setDefaultTimeout(60_000);

const root = resolve(import.meta.dir, "../..");
const page = readFileSync(join(root, "docs/join-a-pytorch-job.md"), "utf8");
const blocks = Array.from(page.matchAll(/^```(\w+)\n([\s\S]*?)^```/gm), ([, language = "", code = ""]) => ({
  language,
  code,
}));

test("the tests that the page on PyTorch jobs names exist", () => {
  const named = Array.from(page.matchAll(/`((?:test|src|examples)\/[^`]+)`/g), ([, file = ""]) => file);
  expect(named.length).toBeGreaterThan(10);
  expect(named.filter((file) => !existsSync(join(root, file)))).toEqual([]);
});

describeWithTorch("docs/join-a-pytorch-job.md", (python) => {
  let folder = "";
  beforeAll(() => {
    mkdirSync(join(root, "build"), { recursive: true });
    folder = mkdtempSync(join(root, "build/joining-")); // inside the package, where its own name resolves
    const [script] = blocks.filter(({ code }) => code.startsWith("#!"));
    const source = (language: string) => blocks.find((block) => block.language === language)?.code ?? "";
    for (const [name, text] of [
      ["rank.py", source("python")],
      ["rank.ts", source("ts")],
      ["rank.sh", script?.code ?? ""],
    ] as const) {
      writeFileSync(join(folder, name), text);
    }
    const bin = join(folder, "bin");
    mkdirSync(bin);
    symlinkSync(process.execPath, join(bin, "bun"));
    const program = (name: string, ...words: readonly string[]) =>
      writeFileSync(join(bin, name), `#!/bin/sh\nexec ${words.map((word) => `'${word}'`).join(" ")} "$@"\n`, {
        mode: 0o755,
      });
    program("python3", python);
    program("torchrun", python, "-m", "torch.distributed.run");
    program("c10d", process.execPath, join(root, "src/cli/main.ts"));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  const commands = blocks.filter(({ language, code }) => language === "sh" && !code.startsWith("#!"));
  test.each(commands.map(({ code }) => [code]))("%s", async (code) => {
    const child = Bun.spawn(["sh", "-eu", "-c", code.replaceAll("29500", String(freePort()))], {
      cwd: folder,
      env: {
        ...process.env,
        PATH: `${join(folder, "bin")}:${process.env.PATH}`,
        NO_COLOR: "1",
        C10D_STORE_SECRET: "",
        TORCH_CPP_LOG_LEVEL: "ERROR",
        OMP_NUM_THREADS: "1",
      },
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
      timeout: 50_000,
      killSignal: "SIGKILL",
    });
    const [stdout, stderr, exitCode] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
    expect({ exitCode, stderr: exitCode === 0 ? "" : stderr }).toEqual({ exitCode: 0, stderr: "" });
    const size = code.includes("WORLD_SIZE=2") ? 2 : 3;
    const sum = size === 2 ? 3 : 6;
    const expected = Array.from(
      { length: size },
      (_, rank) => `rank ${rank} of ${size}, ${rank === 0 ? "Python" : "Bun"}: ${sum}`,
    );
    // Lines of ranks that share an output may interleave: Python writes its line ends separately.
    const printed = Array.from(stdout.matchAll(/rank \d of \d, (?:Python|Bun): \d+/g), ([line]) => line);
    expect(printed.sort()).toEqual(expected);
  });

  test("the page has a command for each way", () => {
    expect(commands).toHaveLength(3);
  });
});

/** A port that was free just now. */
function freePort(): number {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = listener;
  listener.stop(true);
  return port;
}
