import { DistNetworkError } from "../../../errors/index.ts";
import { storeClosed } from "../../store.ts";
import type { CallLimit } from "./call.ts";
import type { Connection } from "./connection.ts";
import { isRefusal } from "./connection-errors.ts";
import type { ServerLink } from "./server-link.ts";

/** Waits beyond this number poll instead. */
const maxConnections = 16;
/** Unused connections that are kept for the next wait. */
const maxIdle = 2;

/** Further connections of one store, each for one wait at a time, so that a wait delays nothing else. */
export class WaitConnections {
  readonly #link: ServerLink;
  readonly #idle: Connection[] = [];
  readonly #all = new Set<Connection>();
  #opening = 0;
  #closed = false;

  constructor(link: ServerLink) {
    this.#link = link;
  }

  /** A connection for one wait, to be released after it; undefined when there is none, and the wait has to poll. */
  async acquire(op: string, keys: readonly string[], limit: CallLimit): Promise<Connection | undefined> {
    if (this.#all.size + this.#opening >= maxConnections && this.#idle.length === 0) return undefined;
    try {
      return await this.acquireAnyway(op, keys, limit);
    } catch (error) {
      // A server that is about to end accepts no more connections, and the next one may have its port, but it still
      // serves those that it has.
      const isEnding = isRefusal(error) || (error instanceof DistNetworkError && error.code === "SERVER_RESTARTED");
      if (isEnding && this.#link.main.failure === undefined) return undefined;
      throw error;
    }
  }

  /** The same for a wait that cannot poll, however many connections there are. */
  async acquireAnyway(op: string, keys: readonly string[], limit: CallLimit): Promise<Connection> {
    for (let idle = this.#idle.pop(); idle !== undefined; idle = this.#idle.pop()) {
      if (idle.failure === undefined) return idle;
      this.#all.delete(idle);
    }
    this.#opening++;
    try {
      const connection = await this.#link.openAnother(op, keys, limit);
      if (this.#closed) {
        connection.close();
        throw storeClosed(op);
      }
      this.#all.add(connection);
      return connection;
    } finally {
      this.#opening--;
    }
  }

  release(connection: Connection): void {
    if (connection.failure === undefined && !this.#closed && this.#idle.length < maxIdle) {
      this.#idle.push(connection);
      return;
    }
    this.#all.delete(connection);
    connection.close();
  }

  close(): void {
    this.#closed = true;
    for (const connection of this.#all) connection.close();
    this.#all.clear();
  }
}
