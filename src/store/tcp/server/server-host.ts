import {
  DistNetworkError,
  DistStoreError,
  descriptorShortage,
  InvalidArgumentError,
  type Shortage,
  shortageOf,
} from "../../../errors/index.ts";
import { untrustedOwnerAt } from "../../../files/index.ts";
import { startTimer } from "../../../time/index.ts";
import { hostPort } from "../host-address.ts";
import type { HostedServerOptions, ServerCommand, ServerEvent } from "./server-message.ts";

/** A Worker starts in milliseconds; this is for an overloaded machine. */
const startLimitMs = 30_000;
const closeLimitMs = 1_000;
/** Descriptors of a Worker's event loop, and one to load modules with. */
const descriptorsOfWorker = 4;

/**
 * A TCPStore server in a Worker, so that it answers while the main thread is blocked in native code. It does not keep
 * the process alive. A process warning reports the first client that it refused because of its secret.
 */
export class ServerHost {
  /** Where it listens. */
  readonly address: string;
  readonly port: number;
  readonly #worker: Worker;
  readonly #drains = new Map<number, (empty: boolean) => void>();
  #lastId = 0;
  #closing: PromiseWithResolvers<void> | undefined;

  /**
   * Starts a server.
   * @param again Called when it could not listen: resolves for another attempt by the same Worker, or rejects to give
   * up.
   * @throws DistNetworkError `PORT_IN_USE`, `UNKNOWN_HOST`, `LISTEN_FAILED`; InvalidArgumentError.
   */
  static async start(
    options: HostedServerOptions,
    again: (error: unknown) => Promise<void> = (error) => Promise.reject(error),
  ): Promise<ServerHost> {
    // Bun ends the process if there are too few for a Worker.
    const shortage = descriptorShortage(undefined, descriptorsOfWorker);
    if (shortage !== undefined) throw startFailed(options, shortage.text, shortage);
    const module = new URL("./server-worker.ts", import.meta.url);
    // In a bundle this is a file next to the bundle, which may be anywhere.
    const stranger = untrustedOwnerAt(Bun.fileURLToPath(module));
    if (stranger !== undefined) throw startFailed(options, stranger);
    const worker = new Worker(module, { ref: false });
    try {
      for (;;) {
        try {
          const { address, port } = await listen(worker, options);
          return new ServerHost(worker, address, port);
        } catch (error) {
          await again(error);
        }
      }
    } catch (error) {
      worker.terminate();
      throw error;
    }
  }

  private constructor(worker: Worker, address: string, port: number) {
    this.address = address;
    this.port = port;
    this.#worker = worker;
    worker.onmessage = (event: MessageEvent<ServerEvent>) => this.#receive(event.data);
    worker.onerror = () => this.#closing?.resolve();
  }

  /** Resolves to true when no client is connected, or to false after `timeoutMs`. */
  async drained(timeoutMs: number): Promise<boolean> {
    const id = ++this.#lastId;
    const answer = Promise.withResolvers<boolean>();
    this.#drains.set(id, answer.resolve);
    const late = startTimer(timeoutMs + closeLimitMs, () => answer.resolve(false));
    send(this.#worker, { kind: "drain", id, timeoutMs });
    try {
      return await answer.promise;
    } finally {
      late[Symbol.dispose]();
      this.#drains.delete(id);
    }
  }

  /** Hangs up on all clients and ends the Worker. */
  async close(): Promise<void> {
    if (this.#closing) return this.#closing.promise;
    const closing = Promise.withResolvers<void>();
    this.#closing = closing;
    const late = setTimeout(closing.resolve, closeLimitMs);
    send(this.#worker, { kind: "close" });
    await closing.promise;
    clearTimeout(late);
    this.#worker.terminate();
  }

  #receive(event: ServerEvent): void {
    if (event.kind === "drained") this.#drains.get(event.id)?.(event.empty);
    if (event.kind === "closed") this.#closing?.resolve();
    if (event.kind !== "refused") return;
    process.emitWarning(
      `the store server at ${hostPort(this.address, this.port)} refused the client at ${event.peer}: ${event.reason}`,
      { code: "C10D_STORE_REFUSED" },
    );
  }
}

/** Makes a Worker listen; resolves to its address and port. */
async function listen(worker: Worker, options: HostedServerOptions): Promise<{ address: string; port: number }> {
  const started = Promise.withResolvers<{ address: string; port: number }>();
  const late = setTimeout(
    () => started.reject(startFailed(options, `its Worker did not start within ${startLimitMs} ms`)),
    startLimitMs,
  );
  worker.onmessage = (event: MessageEvent<ServerEvent>) => {
    if (event.data.kind === "listening") started.resolve(event.data);
    if (event.data.kind === "failed") started.reject(revive(event.data));
  };
  worker.onerror = (event) => started.reject(startFailed(options, event.message));
  send(worker, { kind: "listen", options });
  try {
    return await started.promise;
  } finally {
    clearTimeout(late);
  }
}

function send(worker: Worker, command: ServerCommand): void {
  worker.postMessage(command);
}

function revive(failure: Extract<ServerEvent, { kind: "failed" }>): Error {
  const { name, message, code, details } = failure;
  const init = { ...details, code };
  if (name === "InvalidArgumentError") return new InvalidArgumentError(message, init);
  if (name === "DistNetworkError") return new DistNetworkError(message, init);
  return new DistStoreError(message, init);
}

function startFailed(options: HostedServerOptions, why: string, known?: Shortage): DistNetworkError {
  const { host, port } = options;
  const shortage = known ?? shortageOf(why) ?? descriptorShortage();
  const what = `the store server at ${hostPort(host, port)} could not be started`;
  return new DistNetworkError(`${what}: ${shortage?.text ?? why}`, {
    code: shortage?.code ?? "LISTEN_FAILED",
    host,
    port,
  });
}
