import type { Pointer } from "bun:ffi";
import { messageOf } from "../errors/index.ts";
import { EventKind, EventLayout, Status } from "./abi.generated.ts";
import type { ShimSymbols } from "./shim-symbols.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const NOTHING = new Uint8Array();

/** Where the requests of a group go. */
export interface ExchangeHost {
  /** Serves the rendezvous of the native library. */
  storeSet(key: string, value: Uint8Array): Promise<void>;
  storeGet(key: string): Promise<Uint8Array>;
  log(text: string): void;
}

/** Serves what the native half of a group asks for: the store, which native code never talks to itself, and the log. */
export class ExchangeService {
  readonly #symbols: ShimSymbols;
  readonly #handle: Pointer;
  readonly #host: ExchangeHost;
  #closed = false;

  constructor(symbols: ShimSymbols, handle: Pointer, host: ExchangeHost) {
    this.#symbols = symbols;
    this.#handle = handle;
    this.#host = host;
  }

  /** Serves the request of an event, at this place among the events. */
  serve(kind: number, id: number, events: Int32Array, at: number): void {
    const { key, value } = this.#read(id, events, at);
    if (kind === EventKind.LOG) {
      this.#host.log(key);
      this.#reply(id, Status.OK, NOTHING);
      return;
    }
    const answer =
      kind === EventKind.STORE_SET ? this.#host.storeSet(key, value).then(() => NOTHING) : this.#host.storeGet(key);
    answer.then(
      (bytes) => this.#reply(id, Status.OK, bytes),
      (error: unknown) => this.#reply(id, statusOfStoreError(error), encoder.encode(messageOf(error))),
    );
  }

  /** From now on answers are dropped: the group is closed. */
  close(): void {
    this.#closed = true;
  }

  #read(id: number, events: Int32Array, at: number): { key: string; value: Uint8Array } {
    const key = new Uint8Array(new ArrayBuffer(events[at + EventLayout.keyBytes / 4] ?? 0));
    const value = new Uint8Array(new ArrayBuffer(events[at + EventLayout.valueBytes / 4] ?? 0));
    this.#symbols.c10d_exchange_read(this.#handle, id, key, key.length, value, value.length);
    return { key: decoder.decode(key), value };
  }

  #reply(id: number, status: number, data: Uint8Array): void {
    if (!this.#closed) this.#symbols.c10d_exchange_reply(this.#handle, id, status, data, data.length);
  }
}

function statusOfStoreError(error: unknown): number {
  const tag = error instanceof Error && "code" in error ? String(error.code) : "";
  return tag.endsWith("TIMEOUT") ? Status.OP_TIMEOUT : Status.NETWORK;
}
