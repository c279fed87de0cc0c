import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** Unit of the times in /proc, on all machines that Bun runs on. */
const ticksPerSecond = 100;

const main = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));

/** `c10d store` in its own process, so that its memory can be distinguished from that of its clients. */
export class StoreProcess implements AsyncDisposable {
  readonly #process: Bun.Subprocess<"ignore", "pipe", "inherit">;
  readonly port: number;

  static async start(env: Readonly<Record<string, string>> = {}): Promise<StoreProcess> {
    const child = Bun.spawn([process.execPath, main, "store", "--port", "0"], {
      env: { ...process.env, ...env },
      stdin: "ignore",
      stdout: "pipe",
      stderr: "inherit",
    });
    let line = "";
    for await (const chunk of child.stdout) {
      line += new TextDecoder().decode(chunk);
      if (line.includes("\n")) break;
    }
    const port = Number(/:(\d+)\n/.exec(line)?.[1]);
    if (!(port > 0)) throw new Error(`c10d store did not start: ${line}`);
    return new StoreProcess(child, port);
  }

  private constructor(child: Bun.Subprocess<"ignore", "pipe", "inherit">, port: number) {
    this.#process = child;
    this.port = port;
  }

  get alive(): boolean {
    return this.#process.exitCode === null && this.#process.signalCode === null;
  }

  /** Resident memory now, in MiB; 0 when it has ended. */
  memoryMiB(): number {
    return this.#status("VmRSS");
  }

  /** Time on a CPU so far, in seconds. */
  cpuSeconds(): number {
    if (!this.alive) return 0;
    const stat = readFileSync(`/proc/${this.#process.pid}/stat`, "utf8");
    const [user = 0, system = 0] = stat
      .slice(stat.lastIndexOf(")") + 2)
      .split(" ")
      .slice(11, 13)
      .map(Number);
    return (user + system) / ticksPerSecond;
  }

  /** Peak resident memory so far, in MiB. */
  peakMiB(): number {
    return this.#status("VmHWM");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill("SIGTERM");
    const timer = setTimeout(() => this.#process.kill("SIGKILL"), 3_000);
    await this.#process.exited;
    clearTimeout(timer);
  }

  #status(field: string): number {
    if (!this.alive) return 0;
    const status = readFileSync(`/proc/${this.#process.pid}/status`, "utf8");
    return Math.round(Number(new RegExp(`${field}:\\s*(\\d+) kB`).exec(status)?.[1] ?? 0) / 1024);
  }
}
