import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { TCPStoreServer } from "../../src/store/index.ts";

const LIMIT_MS = 60_000;

/** Programs that share a store and a folder, one of which runs PyTorch's debug front end. */
export class FrontendJob implements AsyncDisposable {
  readonly #folder = mkdtempSync(join(tmpdir(), "c10d-frontend-"));
  readonly #store: TCPStoreServer;
  readonly #programs: Bun.Subprocess<"ignore", "ignore", "pipe">[] = [];
  readonly #errors: Promise<string>[] = [];
  readonly #worldSize: number;

  static async start(worldSize: number): Promise<FrontendJob> {
    return new FrontendJob(await TCPStoreServer.listen({ host: "127.0.0.1", port: 0, secret: null }), worldSize);
  }

  private constructor(store: TCPStoreServer, worldSize: number) {
    this.#store = store;
    this.#worldSize = worldSize;
  }

  /** Starts a program as a rank. The store has no secret, since PyTorch's front end opens it, too. */
  run(rank: number, cmd: readonly string[]): void {
    const program = Bun.spawn([...cmd], {
      env: {
        ...process.env,
        RANK: String(rank),
        WORLD_SIZE: String(this.#worldSize),
        MASTER_ADDR: "127.0.0.1",
        MASTER_PORT: String(this.#store.port),
        TORCHELASTIC_USE_AGENT_STORE: "True",
        TORCH_CPP_LOG_LEVEL: "ERROR",
        TORCH_FR_BUFFER_SIZE: "100",
        OMP_NUM_THREADS: "1",
        NO_COLOR: "1",
        C10D_STORE_SECRET: "",
        RESULT_FOLDER: this.#folder,
      },
      stdin: "ignore",
      stdout: "ignore",
      stderr: "pipe",
      timeout: 110_000,
      killSignal: "SIGKILL",
    });
    this.#programs.push(program);
    this.#errors.push(new Response(program.stderr).text());
  }

  /** The text of a file as soon as a program has written it. */
  async file(name: string): Promise<string> {
    const path = join(this.#folder, name);
    for (const until = performance.now() + LIMIT_MS; performance.now() < until; await Bun.sleep(20)) {
      // A `Bun.file` remembers the size that it has seen.
      if (await Bun.file(path).exists()) return Bun.file(path).text();
      const ended = this.#programs.findIndex(({ exitCode }) => exitCode !== null && exitCode !== 0);
      if (ended >= 0) throw new Error(`program ${ended} has ended: ${await this.#errors[ended]}`);
    }
    throw new Error(`${name} was not written within ${LIMIT_MS} ms`);
  }

  /** Writes a file that programs wait for. */
  async tell(name: string): Promise<void> {
    await Bun.write(join(this.#folder, name), "");
  }

  /** A page of the front end. */
  async page(path: string): Promise<FrontendPage> {
    const port = await this.file("port");
    const response = await fetch(`http://127.0.0.1:${port}${path}`);
    return new FrontendPage(response.status, await response.text());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.tell("go-on");
    await this.tell("stop");
    const late = setTimeout(() => {
      for (const each of this.#programs) each.kill("SIGKILL");
    }, 20_000);
    await Promise.all(this.#programs.map(({ exited }) => exited));
    clearTimeout(late);
    await this.#store.close();
    rmSync(this.#folder, { recursive: true });
  }
}

export class FrontendPage {
  readonly status: number;
  readonly text: string;

  constructor(status: number, text: string) {
    this.status = status;
    this.text = text;
  }

  /** What it shows of a rank. */
  of(rank: number): string {
    const parts = this.text.split(/<h2>Rank (\d+): /);
    return parts[parts.indexOf(String(rank)) + 1] ?? "";
  }

  /** What it shows of a rank, as JSON. */
  json(rank: number): unknown {
    return JSON.parse(/<pre>(.*)<\/pre>/s.exec(this.of(rank))?.[1] ?? "null");
  }

  /** The rows of the table under a heading, by the names of their columns. */
  table(heading: string): Record<string, string>[] {
    const [, table = ""] = this.text.split(`<h2>${heading}</h2>`);
    const rows = (table.split("</table>")[0] ?? "").split("<tr>").slice(1);
    const cells = rows.map((row) =>
      [...row.matchAll(/<t[hd][^>]*>(.*?)<\/t[hd]>/gs)].map(([, cell = ""]) => cell.trim()),
    );
    const [names = [], ...data] = cells;
    return data.map((row) => Object.fromEntries(names.map((name, i) => [name, row[i] ?? ""])));
  }
}
