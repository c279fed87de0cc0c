import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";
import packageJson from "../package.json" with { type: "json" };
import { pickle } from "../src/pickle/index.ts";
import { MadeJob } from "../src/trace/fixtures/made-job.ts";

setDefaultTimeout(60_000);

const root = resolve(import.meta.dir, "..");
let folder = "";
beforeAll(() => {
  mkdirSync(join(root, "build"), { recursive: true });
  folder = mkdtempSync(join(root, "build/readme-")); // inside the package, where its own name resolves
});
afterAll(() => rmSync(folder, { recursive: true }));

const readme = readFileSync(join(root, "README.md"), "utf8");

/** The first block of a language below a heading of README.md. */
function block(heading: string, language: string): string {
  const section = readme.split(/^## /m).find((text) => text.startsWith(`${heading}\n`));
  const code = section?.match(new RegExp(`^\`\`\`${language}\n([\\s\\S]*?)^\`\`\``, "m"))?.[1];
  if (code === undefined) throw new Error(`README.md has no ${language} block below "${heading}"`);
  return code;
}

const emulator = join(root, "build/release/nccl-emulator");
/** Has programs use the emulators of CUDA and NCCL. */
const emulated = {
  C10D_CUDA_LIBRARY: join(emulator, "libcuda.so.1"),
  C10D_NCCL_LIBRARY: join(emulator, "libnccl.so.2"),
};

/** Runs a `c10d` command in the folder. */
async function c10d(...args: readonly string[]) {
  const job = Bun.spawn([process.execPath, join(root, "src/cli/main.ts"), ...args], {
    cwd: folder,
    env: { ...process.env, ...emulated },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    timeout: 40_000,
  });
  const [stdout, stderr, exitCode] = await Promise.all([job.stdout.text(), job.stderr.text(), job.exited]);
  return { exitCode, lines: stdout.trim().split("\n").sort(), stderr };
}

test("the example prints what the README says", async () => {
  const [command = "", ...expected] = block("An example", "console").trim().split("\n");
  expect(command).toBe("$ c10d run -n 2 example.ts");
  await Bun.write(join(folder, "example.ts"), block("An example", "ts"));
  expect(await c10d(...command.split(" ").slice(2))).toEqual({ exitCode: 0, lines: expected.sort(), stderr: "" });
});

test("the example on GPUs prints what the README says, on the emulators", async () => {
  const section = readme.split(/^### /m).find((text) => text.startsWith("On GPUs\n")) ?? "";
  const [, code = "", printed = ""] = /^```ts\n([\s\S]*?)^```[\s\S]*?^```console\n([\s\S]*?)^```/m.exec(section) ?? [];
  const [command = "", ...expected] = printed.trim().split("\n");
  await Bun.write(join(folder, "gpu.ts"), code);
  expect(command).toBe("$ c10d run -n 2 gpu.ts");
  expect(await c10d(...command.split(" ").slice(2))).toEqual({ exitCode: 0, lines: expected.sort(), stderr: "" });
});

test("the commands of the launcher do what the README says", async () => {
  await Bun.write(join(folder, "script.ts"), 'console.log([process.env.RANK, ...Bun.argv.slice(2)].join(" "));');
  const job = new MadeJob(2);
  job.rank(0).call({ state: "scheduled" });
  for (const rank of job.ranks) await Bun.write(join(folder, `dumps/rank_${rank.rank}`), pickle(rank.dump()));
  const commands = block("Launcher", "sh").trim().split("\n");
  const [withArguments, withLimits, dashboard, top, env, trace] = await Promise.all(
    commands.map((line) => c10d(...line.replace(/ +#.*/, "").split(" ").slice(1))),
  );
  const ranks = (text: string) => [0, 1, 2, 3].map((rank) => `[rank ${rank}] ${rank}${text}`);
  expect(withArguments).toEqual({ exitCode: 0, lines: ranks(" --lr 0.1"), stderr: "" });
  expect(withLimits).toEqual({ exitCode: 0, lines: ranks(""), stderr: "" });
  expect(dashboard).toMatchObject({ exitCode: 0, lines: ranks("") });
  expect(dashboard?.stderr).toMatch(/^c10d run: dashboard: http:\/\/127\.0\.0\.1:\d+\/[\w-]{32}\/\n$/);
  // Jobs of this user may be running, among them those above.
  expect(`${top?.exitCode} ${top?.stderr}`).toMatch(/^0 $|^2 c10d top: no job of this user is running on this host\n/);
  expect({ ...env, lines: env?.lines.filter((line) => /^(MASTER_ADDR|C10D_BACKEND) /.test(line)) }).toEqual({
    exitCode: 0,
    lines: [
      "C10D_BACKEND (text, default: cpu:gloo,cuda:nccl where NCCL and a CUDA device can be used, else gloo)",
      "MASTER_ADDR (text, default: required by env://)",
    ],
    stderr: "",
  });
  expect(trace).toMatchObject({ exitCode: 1, stderr: "" });
  expect(trace?.lines.join(" ")).toContain("rank 1 has not called all_reduce #1; rank 0 has waited in it");
  expect(commands).toHaveLength(6);
});

test("the README names the package file correctly; packaging.test.ts adds it and runs its commands", () => {
  expect(readme).toContain(`bun add ../${packageJson.name}/${packageJson.name}-${packageJson.version}.tgz\n`);
});

test("the bootstrap commands that are named exist", () => {
  const { stdout } = Bun.spawnSync([join(root, "bootstrap"), "help"]);
  const help = stdout.toString();
  const pages = [readme, readFileSync(join(root, "CONTRIBUTING.md"), "utf8")];
  const named = pages.flatMap((page) => Array.from(page.matchAll(/\.\/bootstrap (\w+)/g), ([, name = ""]) => name));
  expect(named.length).toBeGreaterThan(8);
  expect(named.filter((name) => !new RegExp(`^ {2}${name}\\b`, "m").test(help))).toEqual([]);
});

test("the commands and folders that CONTRIBUTING.md names exist", () => {
  const page = readFileSync(join(root, "CONTRIBUTING.md"), "utf8");
  const scripts = Array.from(page.matchAll(/`bun run (\w+)`/g), ([, name = ""]) => name);
  expect(scripts.filter((name) => !(name in packageJson.scripts))).toEqual([]);
  const paths = Array.from(
    page.matchAll(/`((?:native|src|test|bench|examples|docs|scripts)\/[\w./-]*)`/g),
    ([, path = ""]) => path,
  );
  expect(paths.length).toBeGreaterThan(15);
  expect(paths.filter((path) => !existsSync(join(root, path)))).toEqual([]);
});
