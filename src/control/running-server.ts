import { existsSync } from "node:fs";
import { hostname } from "node:os";
import { resolve } from "node:path";
import { DistNetworkError, descriptorShortage, shortageOf } from "../errors/index.ts";
import { untrustedOwnerAt } from "../files/index.ts";
import { makeToken } from "./access-token.ts";
import { RequestService } from "./handlers/request-service.ts";
import type { ServedRank } from "./handlers/served-rank.ts";
import type { HttpServerLimits } from "./http/http-server.ts";
import { StartReport } from "./server-thread/start-report.ts";
import type { CallLimits, StartCommand } from "./server-thread/thread-message.ts";
import { SocketFile } from "./socket-file.ts";

/** What a {@link RunningServer} is started with. */
export interface ServerTerms extends ServedRank {
  /** For TCP; a new one by default. */
  readonly token: string | undefined;
  readonly handlerMs: number;
}

/** For an overloaded machine: a Worker starts in milliseconds. */
const START_LIMIT_MS = 30_000;
const STOP_LIMIT_MS = 1_000;
/** Descriptors of a Worker's event loop, its server, and one to load modules with. */
const DESCRIPTORS = 6;

/** `sun_path` of Linux, without its end. */
const SOCKET_PATH_BYTES = 107;

const limits: HttpServerLimits & Omit<CallLimits, "handlerMs"> = {
  connections: 64,
  headBytes: 16_384,
  bodyBytes: 1 << 20,
  requestMs: 10_000,
  answerMs: 30_000,
  reachMs: 5_000,
  calls: 64,
};

/** The Worker of a {@link WorkerServer}, and the service that runs its handlers on this thread. */
export class RunningServer {
  /** Port that it listens on; -1 for a Unix socket. */
  readonly port: number;
  readonly token: string | undefined;
  readonly url: string;
  readonly #worker: Worker;
  readonly #report = new StartReport();
  readonly #service: RequestService;
  readonly #file: SocketFile | undefined;
  #isOpen = true;

  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** @throws DistNetworkError as {@link WorkerServer}. */
  constructor(hostOrFile: string, port: number, { container, globalRank, token, handlerMs }: ServerTerms) {
    const isFile = port === -1;
    if (isFile) requireLength(hostOrFile);
    else this.token = token ?? makeToken();
    const path = resolve(hostOrFile);
    const where = isFile ? hostOrFile : hostPort(hostOrFile, port);
    this.#worker = startWorker(where);
    const { port1, port2 } = new MessageChannel();
    const command: StartCommand = {
      kind: "start",
      address: isFile ? { unix: path } : { hostname: hostOrFile, port },
      token: this.token,
      limits: { ...limits, handlerMs },
      port: port2,
      report: this.#report.memory,
    };
    this.#worker.postMessage(command, [port2]);
    const started = this.#report.await(START_LIMIT_MS) ?? tooLate;
    if (started.failure !== undefined) {
      this.#worker.terminate();
      port1.close();
      const { code, message } = started.failure;
      if (isFile && code === "EEXIST") throw alreadyExists(hostOrFile, message);
      throw notBound(where, message);
    }
    this.port = started.port;
    if (isFile) this.#file = new SocketFile(path);
    const isEverywhere = hostOrFile === "0.0.0.0" || hostOrFile === "::";
    const host = isEverywhere ? hostname() : hostOrFile;
    this.url = isFile ? `unix:${hostOrFile}` : `http://${hostPort(host, this.port)}/${this.token}`;
    this.#service = new RequestService({ container, globalRank }, port1);
  }

  /** Blocks until it no longer listens. */
  stop(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#file?.remove();
    this.#worker.postMessage({ kind: "stop" });
    this.#report.awaitStop(STOP_LIMIT_MS);
    this.#service[Symbol.dispose]();
    this.#worker.terminate();
  }
}

const tooLate = { failure: { code: "", message: `its Worker did not start within ${START_LIMIT_MS} ms` } };

function startWorker(where: string): Worker {
  // Bun ends the process if there are too few for a Worker.
  const shortage = descriptorShortage(undefined, DESCRIPTORS);
  if (shortage !== undefined) throw notBound(where, shortage.text, shortage.code);
  const module = new URL("./server-thread/worker-thread.ts", import.meta.url);
  // In a bundle this is a file next to the bundle, which may be anywhere.
  const path = Bun.fileURLToPath(module);
  const stranger = untrustedOwnerAt(path);
  if (stranger !== undefined) throw notBound(where, stranger);
  // This thread is about to block, so that it could not receive the error event.
  if (!existsSync(path)) throw notBound(where, `${path} is not there; bundle with --external bun-c10d`);
  return new Worker(module, { ref: false });
}

/** @throws DistNetworkError when no client could name the path of a Unix socket. */
function requireLength(path: string): void {
  if (Buffer.byteLength(path) > SOCKET_PATH_BYTES) {
    throw notBound(path, `the path of a Unix socket has at most ${SOCKET_PATH_BYTES} bytes`);
  }
}

function alreadyExists(path: string, why: string): DistNetworkError {
  return new DistNetworkError(`${path} already exists: ${why}`, { code: "ADDRESS_EXISTS", host: path });
}

function notBound(where: string, why: string, code = shortageOf(why)?.code ?? "LISTEN_FAILED"): DistNetworkError {
  return new DistNetworkError(`Error binding to ${where}: ${why}`, { code, host: where });
}

function hostPort(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}
