import { fileURLToPath } from "node:url";
import { TCPStoreServer } from "bun-c10d";

/** How a script ended. */
export interface ScriptOutcome {
  readonly exitCode: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
  /** Date.now() when it ended. */
  readonly endedAt: number;
}

export interface RunningScript {
  readonly pid: number;
  readonly outcome: Promise<ScriptOutcome>;
  /** Resolves to the rest of the first line that begins with `text`, once the script has printed it. */
  printed(text: string): Promise<string>;
  kill(signal: NodeJS.Signals): void;
}

const LIMIT_MS = 25_000;
const folder = new URL("./fixtures/", import.meta.url);

/** Runs a script of fixtures/ as the ranks of one job: plain processes without a harness. */
export async function startScript(
  worldSize: number,
  script: string,
  args: readonly string[] = [],
  environment: Readonly<Record<string, string>> = {},
): Promise<RunningScript[]> {
  const server = await TCPStoreServer.listen({ host: "127.0.0.1", port: 0 });
  const started = Array.from({ length: worldSize }, (_, rank) =>
    start(script, args, {
      RANK: String(rank),
      WORLD_SIZE: String(worldSize),
      MASTER_ADDR: "127.0.0.1",
      MASTER_PORT: String(server.port),
      TORCHELASTIC_USE_AGENT_STORE: "True",
      ...environment,
    }),
  );
  void Promise.all(started.map(({ outcome }) => outcome)).finally(() => server.close());
  return started;
}

/** The same, resolving to the outcomes of all ranks. */
export async function runScript(...job: Parameters<typeof startScript>): Promise<ScriptOutcome[]> {
  return Promise.all((await startScript(...job)).map(({ outcome }) => outcome));
}

/** Runs a job on a port that was free just now; retries on another one if that has been taken meanwhile. */
export async function onFreePort(run: (port: number) => Promise<ScriptOutcome[]>): Promise<ScriptOutcome[]> {
  for (let attempt = 1; ; attempt++) {
    const probe = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    const { port } = probe;
    probe.stop(true);
    const outcomes = await run(port);
    if (attempt === 3 || !outcomes.some(({ stderr }) => stderr.includes("PORT_IN_USE"))) return outcomes;
  }
}

function start(script: string, args: readonly string[], environment: Readonly<Record<string, string>>): RunningScript {
  const child = Bun.spawn([process.execPath, fileURLToPath(new URL(script, folder)), ...args], {
    env: { ...process.env, NO_COLOR: "1", ...environment },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    timeout: LIMIT_MS,
    killSignal: "SIGKILL",
  });
  const output = new Output();
  const read = output.follow(child.stdout);
  const outcome = async (): Promise<ScriptOutcome> => {
    await child.exited;
    const endedAt = Date.now();
    const [stderr] = await Promise.all([child.stderr.text(), read]);
    const signal = child.signalCode === null ? null : String(child.signalCode);
    return { exitCode: child.exitCode, signal, stdout: output.text, stderr, endedAt };
  };
  return {
    pid: child.pid,
    outcome: outcome(),
    printed: (text) => output.line(text),
    kill: (signal) => child.kill(signal),
  };
}

/** The output of a process, as it arrives. */
class Output {
  text = "";
  #ended = false;
  #changed = Promise.withResolvers<void>();

  async follow(stream: ReadableStream<Uint8Array>): Promise<void> {
    const decoder = new TextDecoder();
    for await (const chunk of stream) {
      this.text += decoder.decode(chunk, { stream: true });
      this.#change();
    }
    this.#ended = true;
    this.#change();
  }

  async line(text: string): Promise<string> {
    for (;;) {
      const complete = this.text.slice(0, this.text.lastIndexOf("\n") + 1).split("\n");
      const found = complete.find((line) => line.startsWith(text));
      if (found !== undefined) return found.slice(text.length).trim();
      if (this.#ended) throw new Error(`the script has ended without printing "${text}": ${this.text}`);
      await this.#changed.promise;
    }
  }

  #change(): void {
    const changed = this.#changed;
    this.#changed = Promise.withResolvers();
    changed.resolve();
  }
}
