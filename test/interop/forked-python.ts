import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fixture } from "./torch.ts";

/** A script and its arguments, program text, or a module and its arguments as with `python -m`. */
export type PythonProgram =
  | { readonly argv: readonly string[] }
  | { readonly code: string; readonly argv?: readonly string[] }
  | { readonly module: string; readonly argv: readonly string[] };

export interface PythonEnd {
  /** Negative: the number of the signal that ended it. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

interface Reply {
  readonly id?: number;
  readonly pid?: number;
  readonly code?: number;
}

interface Run {
  readonly ended: PromiseWithResolvers<number>;
  readonly limitMs: number;
  timer?: ReturnType<typeof setTimeout>;
}

/**
 * Runs Python programs that need PyTorch, each in its own process. They are forked from one that has loaded PyTorch,
 * which takes more processor time than most of the programs. `env` is for that first process: some variables are read
 * when PyTorch is loaded. `modules` are other modules that several programs need.
 */
export class ForkedPython implements AsyncDisposable {
  readonly #folder = mkdtempSync(join(tmpdir(), "c10d-python-"));
  readonly #server: Bun.Subprocess<"pipe", "pipe", "inherit">;
  readonly #runs = new Map<number, Run>();
  readonly #listening: Promise<void>;
  readonly #started = Promise.withResolvers<void>();
  #lastId = 0;

  /** Starts the first process, and waits until it has loaded PyTorch: the limits of other ranks do not include that. */
  static async start(
    python: string,
    env: Readonly<Record<string, string | undefined>>,
    modules: readonly string[] = [],
  ): Promise<ForkedPython> {
    const pythons = new ForkedPython(python, env, modules);
    await pythons.#started.promise;
    return pythons;
  }

  private constructor(
    python: string,
    readonly env: Readonly<Record<string, string | undefined>>,
    modules: readonly string[],
  ) {
    this.#server = Bun.spawn([python, fixture("forking_python.py"), ...modules], {
      env,
      stdin: "pipe",
      stdout: "pipe",
      stderr: "inherit",
    });
    this.#listening = this.#listen();
  }

  /** Runs a program until it exits; kills it if that takes longer than `limitMs`. */
  async run(program: PythonProgram, env: Readonly<Record<string, string>>, limitMs: number): Promise<PythonEnd> {
    const id = ++this.#lastId;
    const [stdout, stderr] = [join(this.#folder, `${id}.out`), join(this.#folder, `${id}.err`)];
    const run: Run = { ended: Promise.withResolvers(), limitMs };
    this.#runs.set(id, run);
    const order = { id, argv: [], code: null, module: null, ...program, env: { ...this.env, ...env }, stdout, stderr };
    this.#server.stdin.write(`${JSON.stringify(order)}\n`);
    this.#server.stdin.flush();
    const code = await run.ended.promise;
    return { code, stdout: readFileSync(stdout, "utf8"), stderr: readFileSync(stderr, "utf8") };
  }

  /** Ends all programs that are still running. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.stdin.end();
    await this.#listening;
    await this.#server.exited;
    rmSync(this.#folder, { recursive: true });
  }

  async #listen(): Promise<void> {
    let rest = "";
    const decoder = new TextDecoder();
    for await (const chunk of this.#server.stdout) {
      const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) this.#take(JSON.parse(line) as Reply);
    }
    const ended = new Error("the Python process that forks the others has ended");
    this.#started.reject(ended);
    for (const run of this.#runs.values()) {
      clearTimeout(run.timer);
      run.ended.reject(ended);
    }
  }

  #take({ id, pid, code }: Reply): void {
    if (id === undefined) {
      this.#started.resolve();
      return;
    }
    const run = this.#runs.get(id);
    if (run === undefined) return;
    if (pid !== undefined) run.timer = setTimeout(() => process.kill(pid, "SIGKILL"), run.limitMs);
    if (code === undefined) return;
    clearTimeout(run.timer);
    this.#runs.delete(id);
    run.ended.resolve(code);
  }
}
