import { dlopen, type FFIFunction } from "bun:ffi";
import { isMainThread } from "node:worker_threads";
import { BackendUnavailableError, DistBackendError, DistTimeoutError } from "../../errors/index.ts";
import type { Shim } from "../../native/index.ts";

const NAME = "mpi";
/** C10D_MPI_SHARED of native/process/mpi_host.h. */
const SHARED_BYTES = 1024;
const TEXT_BYTES = 1024;
const POLL_MS = 1;

const State = { IDLE: 0, STARTING: 1, UP: 2, FAILED: 3, ENDED: 4 } as const;

const declarations = {
  c10d_mpi_start: { args: ["i32", "i32"], returns: "void" },
  c10d_mpi_state: { args: [], returns: "i32" },
  c10d_mpi_error: { args: ["ptr", "u32"], returns: "u32" },
  c10d_mpi_rank: { args: [], returns: "i32" },
  c10d_mpi_size: { args: [], returns: "i32" },
  c10d_mpi_any_thread: { args: [], returns: "i32" },
  c10d_mpi_share: { args: ["ptr"], returns: "i32" },
  c10d_mpi_shared: { args: ["ptr"], returns: "i32" },
  c10d_mpi_take_turn: { args: [], returns: "u32" },
  c10d_mpi_settle: { args: ["u32", "ptr", "u32", "ptr", "u32"], returns: "void" },
  c10d_mpi_end: { args: ["i32"], returns: "void" },
} as const satisfies Record<string, FFIFunction>;

type Symbols = ReturnType<typeof dlopen<typeof declarations>>["symbols"];

/** How MPI is started. */
export interface MpiTerms {
  readonly threads: "multiple" | "single";
  /** Whether some ranks of the job are other programs. */
  readonly mixed: boolean;
  /** Limit of the start, in milliseconds. */
  readonly limitMs: number;
}

/** MPI in this process. It is started once, by the first group that needs it, and ended when the process exits. */
export class MpiProcess {
  static #only: { readonly shim: Shim; readonly begun: Promise<MpiProcess> } | undefined;

  /** The shim that this process uses, once one was chosen. */
  static get shim(): Shim | undefined {
    return MpiProcess.#only?.shim;
  }

  /**
   * Starts MPI, or returns what was started before.
   * @throws BackendUnavailableError when another MPI is in use here; DistBackendError; DistTimeoutError.
   */
  static begin(shim: Shim, terms: MpiTerms): Promise<MpiProcess> {
    const only = MpiProcess.#only;
    if (only !== undefined && only.shim.path !== shim.path) {
      throw new BackendUnavailableError(
        `backend "mpi": this process uses ${only.shim.path} already, and MPI can be started only once: it cannot use ${shim.path} as well`,
        { backend: NAME },
      );
    }
    MpiProcess.#only ??= { shim, begun: MpiProcess.#begin(shim, terms) };
    return MpiProcess.#only.begun;
  }

  static async #begin(shim: Shim, { threads, mixed, limitMs }: MpiTerms): Promise<MpiProcess> {
    const { symbols } = dlopen(shim.path, declarations);
    symbols.c10d_mpi_start(threads === "multiple" ? 1 : 0, mixed ? 1 : 0);
    await until(() => symbols.c10d_mpi_state() !== State.STARTING, limitMs, "MPI_Init_thread");
    if (symbols.c10d_mpi_state() !== State.UP) {
      const text = new Uint8Array(new ArrayBuffer(TEXT_BYTES));
      const length = symbols.c10d_mpi_error(text, TEXT_BYTES);
      const reason = new TextDecoder().decode(text.subarray(0, length)) || "it was ended before";
      throw new DistBackendError(`backend "mpi": MPI could not be started: ${reason}`, { backend: NAME });
    }
    return new MpiProcess(symbols, mixed);
  }

  /** Whether some ranks of the job are other programs. */
  readonly mixed: boolean;
  readonly rank: number;
  readonly size: number;
  /** Whether the library lets any thread call it. */
  readonly anyThread: boolean;
  readonly #symbols: Symbols;

  private constructor(symbols: Symbols, mixed: boolean) {
    this.#symbols = symbols;
    this.mixed = mixed;
    this.rank = symbols.c10d_mpi_rank();
    this.size = symbols.c10d_mpi_size();
    this.anyThread = symbols.c10d_mpi_any_thread() === 1;
    // MPI belongs to the process and outlives a Worker. A process in which only Workers started MPI has no listener;
    // there the shim ends MPI by itself.
    if (!isMainThread) return;
    process.on("exit", (code) => symbols.c10d_mpi_end(code));
    if (this.size > 1) process.on("unhandledRejection", endByRejection);
  }

  /** Sends rank 0's bytes to all ranks. All ranks have to call it. */
  async share(value: Uint8Array, limitMs: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(new ArrayBuffer(SHARED_BYTES));
    // The length goes first.
    new DataView(bytes.buffer).setUint16(0, value.length, true);
    bytes.set(value, 2);
    this.#require(this.#symbols.c10d_mpi_share(bytes));
    await until(() => this.#require(this.#symbols.c10d_mpi_shared(bytes)) === 1, limitMs, "MPI_Ibcast of the store");
    const length = new DataView(bytes.buffer).getUint16(0, true);
    return bytes.slice(2, 2 + length);
  }

  /**
   * Takes the next turn to make a communicator, for the group that is made next. If it cannot be made, {@link settle}
   * has to be called: later groups wait for that.
   */
  takeTurn(): number {
    return this.#symbols.c10d_mpi_take_turn();
  }

  /**
   * Ends the turn of a group that could not be made here. If its ranks decided to make it, this one first joins them in
   * MPI, as they could not return from there otherwise, and then leaves the group at once.
   * @param decision What {@link decide} returns; undefined if the store is gone.
   * @param missing Ranks in the group that are known not to have arrived.
   */
  settle(turn: number, decision: Uint8Array | undefined, missing: readonly number[]): void {
    // Neither may be empty: an empty array has no address.
    const bytes = new Uint8Array(new ArrayBuffer(Math.max(1, decision?.length ?? 0)));
    if (decision !== undefined) bytes.set(decision);
    const ranks = new Int32Array(new ArrayBuffer(4 * Math.max(1, missing.length)));
    ranks.set(missing);
    this.#symbols.c10d_mpi_settle(turn, bytes, decision?.length ?? 0, ranks, missing.length);
  }

  #require(result: number): number {
    if (result >= 0) return result;
    throw new DistBackendError(`backend "mpi": sharing the place of the store failed (status ${result})`, {
      backend: NAME,
    });
  }
}

/**
 * Handles an unhandled rejection as Bun does: prints it and exits with code 1. But Bun would run the exit handlers as
 * if all were well, and MPI would wait there for ranks that wait for this one.
 */
function endByRejection(reason: unknown): void {
  if (process.listenerCount("unhandledRejection") > 1) return;
  console.error(Bun.inspect(reason, { colors: process.stderr.isTTY }));
  process.exit(1);
}

async function until(holds: () => boolean, limitMs: number, what: string): Promise<void> {
  const deadline = performance.now() + limitMs;
  while (!holds()) {
    if (performance.now() >= deadline) {
      throw new DistTimeoutError(`backend "mpi": ${what} did not end within ${limitMs} ms: have all ranks started?`, {
        code: "CONNECT_TIMEOUT",
        backend: NAME,
        timeoutMs: limitMs,
      });
    }
    await Bun.sleep(POLL_MS);
  }
}
