import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { messageOf } from "../../src/errors/index.ts";

const script = join(import.meta.dir, "hosts.sh");
const START_LIMIT_MS = 10_000;

/** Outcome of a command. */
export interface CommandEnd {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Hosts of one network on this machine, each with its own name, network, shared memory and `$TMPDIR`. All processes on
 * them end with them, and they end with this process, however it ends.
 */
export class Hosts implements AsyncDisposable {
  static readonly programs = ["unshare", "nsenter", "setpriv", "ip", "mount", "hostname"];

  /** For files that hosts and tests share; removed at the end. */
  readonly folder: string;
  readonly #root: Bun.Subprocess<"ignore", "pipe", "pipe">;
  /** Process id of a process on each host, by name. */
  readonly #pids: ReadonlyMap<string, number>;

  /** Why this machine cannot have them, such as missing programs; undefined if it can. */
  static async impossible(programs: readonly string[] = []): Promise<string | undefined> {
    if (process.platform !== "linux") return "namespaces need Linux";
    if (process.getuid?.() !== 0) return "only root can create namespaces";
    const missing = [...Hosts.programs, ...programs].filter((name) => Bun.which(name, { PATH: searchPath }) === null);
    if (missing.length > 0) return `not installed: ${missing.join(", ")}`;
    try {
      await using _probe = await Hosts.make(["a", "b"]);
      return undefined;
    } catch (error) {
      return messageOf(error);
    }
  }

  static async make(names: readonly [string, ...string[]]): Promise<Hosts> {
    const folder = mkdtempSync(join(tmpdir(), "c10d-hosts-"));
    mkdirSync(join(folder, "tmp"));
    const root = Bun.spawn({
      cmd: [
        ...["setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child"],
        ...["--net", "--uts", "--mount", "--mount-proc", "sh", script, ...names],
      ],
      env: { ...process.env, PATH: searchPath, TMPDIR: join(folder, "tmp"), HOSTS: join(folder, "hosts") },
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
    });
    try {
      await lines(root.stdout, names.length - 1, START_LIMIT_MS);
      const [first = 0] = childrenOf(root.pid);
      // Its children also include a program that the first host is running just now.
      const others = childrenOf(first).flatMap((pid): [string, number][] => {
        const [, , flag, name] = commandOf(pid);
        return flag === "--host" && name !== undefined ? [[name, pid]] : [];
      });
      const pids = new Map([[names[0], first], ...others]);
      if (!names.every((name) => pids.has(name))) throw new Error(`found only ${[...pids.keys()]}`);
      return new Hosts(folder, root, pids);
    } catch (cause) {
      root.kill("SIGKILL");
      const said = (await root.stderr.text()).trim();
      rmSync(folder, { recursive: true, force: true });
      throw new Error(`no namespaces: ${said || messageOf(cause)}`, { cause });
    }
  }

  private constructor(
    folder: string,
    root: Bun.Subprocess<"ignore", "pipe", "pipe">,
    pids: ReadonlyMap<string, number>,
  ) {
    this.folder = folder;
    this.#root = root;
    this.#pids = pids;
  }

  /** Command prefix that runs a program on a host, as one of its processes, so that it ends with the host. */
  on(name: string): readonly string[] {
    return [
      "nsenter",
      "--target",
      String(this.#pid(name)),
      "--net",
      "--uts",
      "--mount",
      "--pid",
      `--wdns=${process.cwd()}`,
    ];
  }

  /** Runs a command on a host; it is killed after the limit. */
  async run(name: string, command: readonly string[], env: Readonly<Record<string, string>>, limitMs: number) {
    const child = Bun.spawn({
      cmd: [...this.on(name), "timeout", "--signal", "KILL", String(limitMs / 1_000), ...command],
      env: { ...this.environment, ...env },
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
    });
    const [stdout, stderr, exitCode] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
    return { exitCode, stdout, stderr } satisfies CommandEnd;
  }

  /** A program that runs a command on a host, like rsh and ssh: `agent HOST COMMAND…`. */
  get agent(): string {
    const path = join(this.folder, "agent");
    const cases = Array.from(this.#pids, ([name, pid]) => `  ${name}) pid=${pidAmongThem(pid)} ;;`);
    const enter = 'nsenter --target "$pid" --net --uts --mount --wdns="$PWD"';
    const text = ["#!/bin/sh", "host=$1", "shift", "case $host in", ...cases, "esac", `exec ${enter} sh -c "$*"`, ""];
    writeFileSync(path, text.join("\n"), { mode: 0o755 });
    return path;
  }

  get environment(): Record<string, string | undefined> {
    return { ...process.env, PATH: searchPath, TMPDIR: join(this.folder, "tmp"), NO_COLOR: "1" };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#root.kill("SIGKILL");
    await this.#root.exited;
    rmSync(this.folder, { recursive: true, force: true });
  }

  #pid(name: string): number {
    const pid = this.#pids.get(name);
    if (pid === undefined) throw new Error(`there is no host ${name}`);
    return pid;
  }
}

/** Daemons are not in every user's path. */
const searchPath = `${process.env.PATH}:/usr/sbin:/sbin`;

function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter(Boolean).map(Number);
}

/** The process id of a process in its innermost namespace. */
function pidAmongThem(pid: number): number {
  const ids = /^NSpid:\s+(.*)$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]?.split(/\s+/) ?? [];
  return Number(ids.at(-1));
}

/** Empty if it has ended. */
function commandOf(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
  } catch {
    return [];
  }
}

/** Waits until a stream has produced so many lines. */
async function lines(stream: ReadableStream<Uint8Array>, count: number, limitMs: number): Promise<void> {
  const reader = stream.getReader();
  const late = Bun.sleep(limitMs).then(() => Promise.reject(new Error(`not up in ${limitMs} ms`)));
  late.catch(() => {});
  try {
    for (let seen = 0; seen < count; ) {
      const { value, done } = await Promise.race([reader.read(), late]);
      if (done) throw new Error("the hosts exited at once");
      seen += value.filter((byte) => byte === 10).length;
    }
  } finally {
    reader.releaseLock();
  }
}
