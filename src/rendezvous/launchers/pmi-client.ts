import { dlopen } from "bun:ffi";
import { fstatSync } from "node:fs";
import { DistNetworkError, DistTimeoutError } from "../../errors/index.ts";

const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const CHUNK_BYTES = 4096;
const longestPauseMs = 20;
/** How long the exit of the process waits for the launcher. */
const lastAnswerMs = 1_000;

interface Limits {
  /** When to give up, on the clock of `performance.now()`. */
  readonly deadline: number;
  readonly signal?: AbortSignal;
}

const call = { args: ["i32", "ptr", "u64", "i32"], returns: "i64" } as const;
const load = () => dlopen("libc.so.6", { recv: call, send: call }).symbols;

/**
 * What the launcher of MPICH, and Slurm's `srun --mpi=pmi2`, offer to the ranks they start: a table of texts and a
 * barrier, behind a socket that each rank inherits. Version 1 of the protocol, which both speak: a line each way.
 *
 * An MPI library that this process starts later uses the same socket. MPICH's launcher allows a second init, Slurm's
 * does not.
 */
export class PmiClient {
  static readonly #clients = new Map<number, PmiClient>();

  readonly #fd: number;
  readonly #inode: number;
  readonly #libc: ReturnType<typeof load>;
  #received = "";
  #table: string | undefined;
  #broken: Error | undefined;

  /** The client of a socket, shared by all meetings that use it. */
  static of(fd: number): PmiClient {
    const known = PmiClient.#clients.get(fd);
    if (known !== undefined) return known;
    const client = new PmiClient(fd, load());
    PmiClient.#clients.set(fd, client);
    atVeryEnd((code) => client.#end(code));
    return client;
  }

  private constructor(fd: number, libc: ReturnType<typeof load>) {
    this.#fd = fd;
    this.#inode = fstatSync(fd).ino;
    this.#libc = libc;
  }

  /** Publishes a text to all ranks, after the next {@link barrier}. Key and text must not have white space. */
  async put(key: string, value: string, limits: Limits): Promise<void> {
    const table = await this.#begin(limits);
    await this.#ask(`cmd=put kvsname=${table} key=${key} value=${value}`, "put_result", limits);
  }

  /** Waits until all ranks of the job have called it. */
  async barrier(limits: Limits): Promise<void> {
    await this.#begin(limits);
    await this.#ask("cmd=barrier_in", "barrier_out", limits);
  }

  async get(key: string, limits: Limits): Promise<string> {
    const table = await this.#begin(limits);
    return field(await this.#ask(`cmd=get kvsname=${table} key=${key}`, "get_result", limits), "value");
  }

  async #begin(limits: Limits): Promise<string> {
    if (this.#table === undefined) {
      await this.#ask("cmd=init pmi_version=1 pmi_subversion=1", "response_to_init", limits);
      this.#table = field(await this.#ask("cmd=get_my_kvsname", "my_kvsname", limits), "kvsname");
    }
    return this.#table;
  }

  /** MPICH's launcher takes an exit without this request for a crash, and kills the other ranks. */
  #end(code: number): void {
    if (code !== 0 || this.#broken !== undefined) return;
    try {
      // An MPI library that sent it itself has closed the socket, whose descriptor may be in use again.
      if (fstatSync(this.#fd).ino !== this.#inode) return;
      this.#send("cmd=finalize\n");
      // The process must not exit before the answer.
      const into = new Uint8Array(new ArrayBuffer(CHUNK_BYTES));
      for (const end = performance.now() + lastAnswerMs; performance.now() < end; Bun.sleepSync(1)) {
        if (Number(this.#libc.recv(this.#fd, into, CHUNK_BYTES, MSG_DONTWAIT)) >= 0) return;
      }
    } catch {
      // It is closed.
    }
  }

  /** One request and its answer; after a failure the answers can no longer be matched to requests. */
  async #ask(request: string, answer: string, limits: Limits): Promise<string> {
    if (this.#broken !== undefined) throw this.#broken;
    try {
      this.#send(`${request}\n`);
      const line = await this.#line(request, limits);
      if (field(line, "cmd") !== answer || !/^0?$/.test(field(line, "rc", ""))) {
        throw failure(`answered "${line}" to "${request}"`);
      }
      return line;
    } catch (error) {
      this.#broken = error instanceof Error ? error : new Error(String(error));
      throw error;
    }
  }

  #send(line: string): void {
    const bytes = new TextEncoder().encode(line);
    // A line is far smaller than the buffer of the socket, and nothing else writes to it.
    const sent = Number(this.#libc.send(this.#fd, bytes, bytes.length, MSG_DONTWAIT | MSG_NOSIGNAL));
    if (sent !== bytes.length) throw failure("accepts no requests: PMI_FD is not its socket, or it is closed");
  }

  async #line(request: string, { deadline, signal }: Limits): Promise<string> {
    const into = new Uint8Array(new ArrayBuffer(CHUNK_BYTES));
    for (let pause = 1; ; pause = Math.min(pause * 1.5, longestPauseMs)) {
      const count = Number(this.#libc.recv(this.#fd, into, CHUNK_BYTES, MSG_DONTWAIT));
      if (count === 0) throw failure("closed the connection");
      if (count > 0) this.#received += new TextDecoder().decode(into.subarray(0, count));
      const end = this.#received.indexOf("\n");
      if (end >= 0) {
        const line = this.#received.slice(0, end);
        this.#received = this.#received.slice(end + 1);
        return line;
      }
      signal?.throwIfAborted();
      if (performance.now() >= deadline) throw late(request);
      await Bun.sleep(pause);
    }
  }
}

/** Runs `action` at the exit of the process, after listeners that are added later, such as one that finalizes MPI. */
function atVeryEnd(action: (code: number) => void): void {
  process.on("exit", action);
  process.on("newListener", (event: unknown, listener: unknown) => {
    if (event === "exit" && listener !== action) queueMicrotask(() => process.off("exit", action).on("exit", action));
  });
}

/** A field of a line such as `cmd=get_result rc=0 value=…`. */
function field(line: string, name: string, otherwise?: string): string {
  for (const part of line.split(" ")) {
    if (part.startsWith(`${name}=`)) return part.slice(name.length + 1);
  }
  if (otherwise !== undefined) return otherwise;
  throw failure(`left ${name} out of "${line}"`);
}

function failure(what: string): DistNetworkError {
  return new DistNetworkError(
    `rendezvous env://: the launcher, through which the ranks meet, ${what}. Set MASTER_ADDR and MASTER_PORT to meet without it.`,
    { code: "LAUNCHER_UNREACHABLE", op: "rendezvous" },
  );
}

function late(request: string): DistTimeoutError {
  const what = request === "cmd=barrier_in" ? "not all ranks of the job arrived" : "the launcher did not answer";
  return new DistTimeoutError(`rendezvous env://: ${what} in time; the ranks meet through their launcher (PMI)`, {
    code: "CONNECT_TIMEOUT",
    op: "rendezvous",
  });
}
