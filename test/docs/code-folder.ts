import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";

/** The root of the package. */
export const root = resolve(import.meta.dir, "../..");

/** How a program ended. */
export interface ProgramEnd {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
  /** Lines of stdout, sorted: ranks write in any order. */
  readonly lines: readonly string[];
}

/** A folder with the code of a page of docs, to compile and to run it. */
export class CodeFolder implements Disposable {
  readonly path: string;
  readonly #limitMs: number;

  /**
   * @param files Contents by name; a `tsconfig.json` for all of them is added.
   * @param limitMs Time after which a program is killed.
   */
  constructor(name: string, files: Iterable<readonly [name: string, code: string]>, limitMs = 50_000) {
    this.#limitMs = limitMs;
    mkdirSync(join(root, "build"), { recursive: true });
    // Inside the package, where its own name resolves.
    this.path = mkdtempSync(join(root, `build/${name}-`));
    for (const [file, code] of files) this.write(file, code);
    this.write("tsconfig.json", JSON.stringify({ extends: join(root, "tsconfig.json"), include: ["**/*.ts"] }));
  }

  /** Writes one more file; returns its path. */
  write(file: string, code: string): string {
    const path = join(this.path, file);
    mkdirSync(join(path, ".."), { recursive: true });
    writeFileSync(path, code);
    return path;
  }

  /** Compiler errors in these files. Errors elsewhere in the package are reported by the step that compiles it. */
  async compileErrors(): Promise<readonly string[]> {
    const compiler = join(root, "node_modules/typescript/bin/tsc");
    // Several checkers would each check what they share.
    const { exitCode, stdout, stderr } = await this.run([compiler, "--singleThreaded", "--noEmit", "-p", this.path]);
    const errors = stdout.split("\n").filter((line) => /\(\d+,\d+\): error/.test(line));
    if (exitCode !== 0 && errors.length === 0) throw new Error(`the compiler failed: ${stdout}${stderr}`);
    return errors.filter((line) => /^[^ .]/.test(line));
  }

  /** Runs Bun in the folder. */
  async run(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<ProgramEnd> {
    const child = Bun.spawn([process.execPath, ...args], {
      cwd: this.path,
      env: { ...process.env, NO_COLOR: "1", ...env },
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
      timeout: this.#limitMs,
    });
    const [stdout, stderr, exitCode] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
    return { exitCode, stdout, stderr, lines: stdout.trim().split("\n").sort() };
  }

  /** Runs two ranks of a script; by default without prefixes in their output. */
  runRanks(
    script: string,
    env: Readonly<Record<string, string>> = {},
    flags: readonly string[] = ["--no-prefix"],
  ): Promise<ProgramEnd> {
    return this.run([join(root, "src/cli/main.ts"), "run", "-n", "2", ...flags, join(this.path, script)], env);
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true });
  }
}
