import { DistNetworkError, type DistTimeoutError } from "../../../errors/index.ts";
import { pause } from "../../../time/index.ts";
import { barrierTimeout, storeTimeout } from "../../store.ts";
import { hostPort } from "../host-address.ts";
import type { OutputBuffer } from "../wire/output-buffer.ts";
import { QueryType } from "../wire/protocol.ts";
import { readBytes } from "../wire/reply.ts";
import type { CallLimit } from "./call.ts";
import { callLimit, cancelGraceMs, settle, type WaitEnd } from "./call-limit.ts";
import type { Connection } from "./connection.ts";
import { noAnswer } from "./connection-errors.ts";
import { checking, KeyRequest, writeKeys } from "./requests.ts";
import type { ServerLink } from "./server-link.ts";
import { WaitConnections } from "./wait-connections.ts";

/** The waits of one store. Each uses a connection that no other call needs, so it never delays other calls. */
export class KeyWaits {
  readonly #link: ServerLink;
  readonly #connections: WaitConnections;
  /** One barrier at a time waits on the main connection: two would keep cancelling each other. */
  #mainIsAtBarrier = false;

  constructor(link: ServerLink) {
    this.#link = link;
    this.#connections = new WaitConnections(link);
  }

  /**
   * Resolves when all keys exist.
   * @throws DistTimeoutError naming those that are missing.
   */
  async until(op: string, keys: readonly string[], limit: CallLimit): Promise<void> {
    for (;;) {
      limit.signal?.throwIfAborted();
      const ended = await this.#wait(op, keys, limit);
      if (ended === "ready") return;
      if (ended === "expired" || ended === "silent") return this.#giveUp(op, keys, limit, ended);
    }
  }

  /** Counts one arrival at a barrier and waits for the others. */
  async barrier(key: string, worldSize: number, limit: CallLimit): Promise<void> {
    const ended = await this.#arriveAtBarrier(key, worldSize, limit);
    if (ended === "silent") throw this.timeout("barrier", [key], limit.ms, ended);
    if (ended !== "ready") throw await this.#barrierTimeout(key, worldSize, limit);
  }

  /** The error of a wait that ran out of time. */
  timeout(op: string, keys: readonly string[], limitMs: number, ended: WaitEnd = "expired"): DistTimeoutError {
    const { endpoint } = this.#link.main;
    if (ended === "silent") return noAnswer(endpoint, op, keys, limitMs);
    return storeTimeout(op, keys, limitMs, ` (server ${hostPort(endpoint.host, endpoint.port)})`);
  }

  close(): void {
    this.#connections.close();
  }

  async #arriveAtBarrier(key: string, worldSize: number, limit: CallLimit): Promise<WaitEnd> {
    const arrive = (output: OutputBuffer) => {
      output.u8(QueryType.BARRIER);
      output.key(key);
      output.i64(worldSize);
    };
    const request = { op: "barrier", keys: [key], repeatable: false };
    const main = await this.#link.connected("barrier", [key], limit);
    if (main.ownDialect && !this.#mainIsAtBarrier) {
      const resume = (output: OutputBuffer) => output.u8(QueryType.BARRIER_RESUME);
      this.#mainIsAtBarrier = true;
      try {
        // Other requests on the connection cancel the wait, but not the arrival at the barrier.
        for (let write = arrive; ; write = resume) {
          const ended = await settle(main.wait({ ...request, write }), limit);
          if (ended !== "cancelled") return ended;
        }
      } finally {
        this.#mainIsAtBarrier = false;
      }
    }
    // An arrival counts each time it is sent, so it must be sent where no other call cancels it.
    const connection = await this.#connections.acquireAnyway("barrier", [key], limit);
    try {
      return await settle(connection.wait({ ...request, write: arrive }), limit);
    } finally {
      this.#connections.release(connection);
    }
  }

  async #barrierTimeout(key: string, worldSize: number, limit: CallLimit): Promise<DistTimeoutError> {
    const { endpoint, ownDialect } = this.#link.main;
    const look = new KeyRequest("barrier", QueryType.GET, key, true, () => readBytes);
    // PyTorch's legacy server hangs up if the key was removed.
    const count = ownDialect
      ? await this.#link.request(look, callLimit({}, cancelGraceMs)).catch(() => undefined)
      : undefined;
    const arrived = count && Number(new TextDecoder().decode(count));
    return barrierTimeout(key, arrived, worldSize, limit.ms, ` (server ${hostPort(endpoint.host, endpoint.port)})`);
  }

  /** Waits on the main connection while nothing else uses it, otherwise on a separate one. */
  async #wait(op: string, keys: readonly string[], limit: CallLimit): Promise<WaitEnd> {
    const main = await this.#link.connected(op, keys, limit);
    if (main.idle) {
      const ended = await this.#waitOn(main, op, keys, limit);
      if (ended !== "cancelled") return ended;
    } else if (await this.#link.request(checking(op, keys), limit)) {
      return "ready";
    }
    const connection = await this.#connections.acquire(op, keys, limit);
    if (connection === undefined) return this.#poll(op, keys, limit);
    try {
      return await this.#waitOn(connection, op, keys, limit);
    } finally {
      this.#connections.release(connection);
    }
  }

  #waitOn(connection: Connection, op: string, keys: readonly string[], limit: CallLimit): Promise<WaitEnd> {
    const write = (output: OutputBuffer) => writeKeys(output, QueryType.WAIT, keys);
    return settle(connection.wait({ op, keys, repeatable: true, write }), limit);
  }

  async #poll(op: string, keys: readonly string[], limit: CallLimit): Promise<WaitEnd> {
    for (let delay = 1; !(await this.#link.request(checking(op, keys), limit)); delay = Math.min(delay * 2, 50)) {
      if (limit.deadline - performance.now() <= delay) return "expired";
      await pause(delay, limit.signal);
    }
    return "ready";
  }

  /** Ends a wait that timed out: with an error, unless the keys were set at the last moment. */
  async #giveUp(op: string, keys: readonly string[], limit: CallLimit, ended: WaitEnd): Promise<void> {
    const distinct = [...new Set(keys)];
    if (distinct.length === 1 || ended === "silent") throw this.timeout(op, distinct, limit.ms, ended);
    const brief = callLimit({}, cancelGraceMs);
    const isThere = (key: string) =>
      this.#link.request(checking(op, [key]), brief).catch((error: unknown) => {
        if (error instanceof DistNetworkError) throw error;
        return false;
      });
    const present = await Promise.all(distinct.map(isThere));
    const missing = distinct.filter((_, i) => !present[i]);
    if (missing.length > 0) throw this.timeout(op, missing, limit.ms, ended);
  }
}
