import { DistStoreError } from "../../../errors/index.ts";
import { int64Range, type KeyValueTable, safeIntegerRange } from "../../key-value-table.ts";
import type { StoreSecret } from "../store-secret.ts";
import { ServerHandshake } from "../wire/handshake.ts";
import { InputBuffer } from "../wire/input-buffer.ts";
import { type ByteSink, OutputBuffer } from "../wire/output-buffer.ts";
import { addFailure, checkReply, dialectMark, identityMark, limits, QueryType, waitReply } from "../wire/protocol.ts";
import { RequestParser } from "../wire/request-parser.ts";
import type { Barriers } from "./barriers.ts";

/** Bytes of replies that may be queued for a slow client before its requests are no longer read. */
const maxBacklog = 1024 * 1024;

const empty = new Uint8Array(0);

const violation = "PROTOCOL_VIOLATION";

/** The arrival of a client of this package at a barrier, which stays while its wait is cancelled. */
interface BarrierPlace {
  released: boolean;
  wake: (() => void) | undefined;
  leave: () => void;
}

/** The part of a socket that a connection uses. */
export interface ServerSocket extends ByteSink {
  /** Stops and restarts reading. */
  pause(): void;
  resume(): void;
}

/** What the connections of a server share. */
export interface ServerState {
  readonly table: KeyValueTable;
  readonly barriers: Barriers;
  /** Random; distinguishes the server from one that is started later at the same address. */
  readonly identity: Uint32Array;
  readonly secret: StoreSecret | undefined;
}

/** One client of the server: reads its requests, executes them, and keeps its waits. */
export class ServerConnection {
  readonly openedAt = performance.now();
  readonly #socket: ServerSocket;
  readonly #table: KeyValueTable;
  readonly #barriers: Barriers;
  readonly #identity: Uint32Array;
  readonly #input = new InputBuffer();
  readonly #parser = new RequestParser(this.#input);
  readonly #output = new OutputBuffer();
  #handshake: ServerHandshake | undefined;
  /** Keys of the pending WAITs, and their bytes. */
  #waitedKeys = 0;
  #waitedBytes = 0;
  /** Functions that cancel the waits of this client. */
  readonly #waits = new Set<() => void>();
  #place: BarrierPlace | undefined;
  /** Whether the client is of this package. */
  #ownDialect = false;
  #hasSentRequest = false;
  #reading = false;
  #stalled = false;
  /** The reply to a MULTI_GET or LIST_KEYS, which may be partly sent: it may be far larger than the request. */
  #values: readonly (Uint8Array | string)[] = [];
  #valuesSent = 0;
  /** Waits that ended meanwhile. */
  #released = 0;

  constructor(socket: ServerSocket, { table, barriers, identity, secret }: ServerState) {
    this.#socket = socket;
    this.#table = table;
    this.#barriers = barriers;
    this.#identity = identity;
    this.#handshake = new ServerHandshake(secret);
  }

  /** Whether it has proven that it knows the secret, if there is one, and sent VALIDATE with the right number. */
  get validated(): boolean {
    return this.#parser.validated;
  }

  /** Whether it has sent a request other than VALIDATE and PING. */
  get hasSentRequest(): boolean {
    return this.#hasSentRequest;
  }

  /**
   * Executes the requests that are complete.
   * @throws DistStoreError when the client violated the protocol or broke a counter: its connection must be closed.
   */
  receive(chunk: Uint8Array): void {
    this.#input.push(chunk);
    if (!this.#stalled) this.#read();
  }

  /**
   * Continues when the socket takes bytes again.
   * @throws DistStoreError as {@link receive}.
   */
  drain(): void {
    if (!this.#output.flush(this.#socket) || !this.#stalled) return;
    this.#stalled = false;
    this.#socket.resume();
    this.#read();
  }

  /** Cancels the waits of a client that has disconnected. */
  release(): void {
    this.#cancelWaits();
    this.#place?.leave();
  }

  #cancelWaits(): void {
    for (const cancel of this.#waits) cancel();
    this.#waits.clear();
  }

  #read(): void {
    this.#reading = true;
    try {
      if (this.#handshake) {
        if (this.#handshake.proceed(this.#input, this.#output) === "more") return;
        this.#handshake = undefined;
      }
      while (this.#writeValues() && this.#parser.next()) this.#execute();
    } finally {
      this.#reading = false;
      this.#output.flush(this.#socket);
    }
  }

  /** Writes the rest of the reply to a MULTI_GET or LIST_KEYS; false when the client has to read some of it first. */
  #writeValues(): boolean {
    for (;;) {
      if (this.#output.length > maxBacklog && !this.#output.flush(this.#socket)) {
        this.#stalled = true;
        this.#socket.pause();
        return false;
      }
      const value = this.#values[this.#valuesSent];
      if (value === undefined) break;
      this.#valuesSent++;
      if (typeof value === "string") this.#output.latin1(value);
      else this.#output.keep(value);
    }
    this.#values = [];
    this.#valuesSent = 0;
    for (; this.#released > 0; this.#released--) this.#output.u8(waitReply.STOP_WAITING);
    return true;
  }

  #execute(): void {
    const { key, keys, value } = this.#parser;
    const table = this.#table;
    const output = this.#output;
    const { type } = this.#parser;
    if (type !== QueryType.VALIDATE && type !== QueryType.PING) this.#hasSentRequest = true;
    switch (type) {
      case QueryType.VALIDATE:
      case QueryType.MULTI_SET: // read as SETs
        break;
      case QueryType.SET:
        table.set(key, value);
        break;
      case QueryType.COMPARE_SET:
        output.keep(table.compareSet(key, this.#parser.expected, value));
        break;
      case QueryType.GET:
        output.keep(table.get(key) ?? empty);
        break;
      case QueryType.ADD:
        output.i64(this.#add(key, this.#parser.amount));
        break;
      case QueryType.CHECK:
        output.u8(table.hasAll(keys) ? checkReply.READY : checkReply.NOT_READY);
        break;
      case QueryType.WAIT:
        this.#waitFor(keys);
        break;
      case QueryType.GETNUMKEYS:
        output.i64(table.size);
        break;
      case QueryType.DELETE_KEY:
        output.i64(table.delete(key) ? 1 : 0);
        break;
      case QueryType.APPEND:
        table.append(key, value);
        break;
      case QueryType.MULTI_GET:
        this.#values = keys.map((each) => table.get(each) ?? empty);
        break;
      case QueryType.CANCEL_WAIT:
        this.#cancelWaits();
        output.u8(waitReply.WAIT_CANCELED);
        break;
      case QueryType.PING:
        output.u32(this.#pingReply(this.#parser.nonce));
        break;
      case QueryType.QUEUE_PUSH:
        table.queuePush(key, value);
        break;
      case QueryType.QUEUE_POP: {
        output.i64(table.queueLength(key));
        const element = table.queuePop(key);
        if (element !== undefined) output.keep(element);
        break;
      }
      case QueryType.QUEUE_LEN:
        output.i64(table.queueLength(key));
        break;
      case QueryType.LIST_KEYS: {
        const all = table.keys();
        output.i64(all.length);
        this.#values = all;
        break;
      }
      case QueryType.BARRIER: {
        const worldSize = this.#parser.amount;
        if (this.#ownDialect) this.#arriveAtBarrier(key, worldSize);
        else this.#await((release) => this.#barriers.arrive(key, worldSize, release));
        break;
      }
      case QueryType.BARRIER_RESUME:
        this.#waitAtBarrier();
        break;
    }
  }

  #waitFor(keys: readonly string[]): void {
    const table = this.#table;
    const bytes = this.#parser.keyBytes;
    this.#waitedKeys += keys.length;
    this.#waitedBytes += bytes;
    if (this.#waitedKeys > limits.keys || this.#waitedBytes > limits.allKeyBytes) {
      throw new DistStoreError("store protocol: too many keys in the waits of a connection", { code: violation });
    }
    const ended = () => {
      this.#waitedKeys -= keys.length;
      this.#waitedBytes -= bytes;
    };
    this.#await((release) => {
      const cancel = table.waiters.add(keys, () => {
        ended();
        release();
      });
      return () => {
        ended();
        cancel();
      };
    });
  }

  #arriveAtBarrier(key: string, worldSize: number | bigint): void {
    this.#place?.leave();
    const place: BarrierPlace = { released: false, wake: undefined, leave: () => {} };
    place.leave = this.#barriers.arrive(key, worldSize, () => {
      place.released = true;
      place.wake?.();
    });
    this.#place = place;
    this.#waitAtBarrier();
  }

  #waitAtBarrier(): void {
    const place = this.#place;
    if (place === undefined) throw new DistStoreError("store protocol: no barrier to wait at", { code: violation });
    this.#await((release) => {
      if (place.released) release();
      else place.wake = release;
      return () => {
        place.wake = undefined;
      };
    });
  }

  #add(key: string, amount: number | bigint): number | bigint {
    if (!this.#ownDialect) return this.#table.add(key, amount, int64Range);
    try {
      return this.#table.add(key, amount, safeIntegerRange);
    } catch (error) {
      if (error instanceof DistStoreError && error.code === "NOT_A_COUNTER") return addFailure.notACounter;
      if (error instanceof DistStoreError && error.code === "COUNTER_OVERFLOW") return addFailure.overflow;
      throw error;
    }
  }

  #pingReply(nonce: number): number {
    if (this.#ownDialect && (nonce & identityMark.mask) >>> 0 === identityMark.ask) {
      return this.#identity[nonce & ~identityMark.mask] ?? 0;
    }
    if ((nonce & dialectMark.mask) >>> 0 !== dialectMark.ask) return nonce;
    this.#ownDialect = true;
    return (dialectMark.answer | (nonce & ~dialectMark.mask)) >>> 0;
  }

  #await(start: (release: () => void) => () => void): void {
    let released = false;
    let cancel: (() => void) | undefined;
    cancel = start(() => {
      released = true;
      if (cancel) this.#waits.delete(cancel);
      if (this.#values.length > 0) {
        this.#released++;
        return;
      }
      this.#output.u8(waitReply.STOP_WAITING);
      if (!this.#reading) this.#output.flush(this.#socket);
    });
    if (released) return;
    this.#waits.add(cancel);
    if (this.#waits.size > limits.waits) {
      throw new DistStoreError(`store protocol: more than ${limits.waits} waits at a time`, { code: violation });
    }
  }
}
