import { expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";

const root = resolve(import.meta.dir, "..");

/** The first block of a language below a heading of README.md. */
function block(heading: string, language: string): string {
  const readme = readFileSync(join(root, "README.md"), "utf8");
  const section = readme.split(/^## /m).find((text) => text.startsWith(`${heading}\n`));
  const code = section?.match(new RegExp(`^\`\`\`${language}\n([\\s\\S]*?)^\`\`\``, "m"))?.[1];
  if (code === undefined) throw new Error(`README.md has no ${language} block below "${heading}"`);
  return code;
}

test("the example prints what the README says", async () => {
  const [command, ...expected] = block("An example", "console").trim().split("\n");
  expect(command).toBe("$ c10d run -n 2 example.ts");
  mkdirSync(join(root, "build"), { recursive: true });
  const folder = mkdtempSync(join(root, "build/readme-")); // inside the package, where its own name resolves
  try {
    await Bun.write(join(folder, "example.ts"), block("An example", "ts"));
    const job = Bun.spawn([process.execPath, join(root, "src/cli/main.ts"), "run", "-n", "2", "example.ts"], {
      cwd: folder,
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
      timeout: 40_000,
    });
    const [stdout, stderr, exitCode] = await Promise.all([job.stdout.text(), job.stderr.text(), job.exited]);
    expect({ exitCode, lines: stdout.trim().split("\n").sort(), stderr }).toEqual({
      exitCode: 0,
      lines: expected.sort(),
      stderr: "",
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
});
