import type { InputBuffer } from "../wire/input-buffer.ts";
import type { OutputBuffer } from "../wire/output-buffer.ts";
import { checkReply, QueryType } from "../wire/protocol.ts";
import { constantReader, incomplete, manyReader, readBytes, readU8, thenReader } from "../wire/reply.ts";
import type { CallLimit, Request } from "./call.ts";
import type { KeyWaits } from "./key-waits.ts";
import { checking, KeyRequest, writeKeys } from "./requests.ts";
import type { ServerLink } from "./server-link.ts";

/** Reads values, waiting for keys that do not exist yet. */
export class KeyReads {
  readonly #link: ServerLink;
  readonly #waits: KeyWaits;

  constructor(link: ServerLink, waits: KeyWaits) {
    this.#link = link;
    this.#waits = waits;
  }

  /** The value of a key. */
  one(key: string, limit: CallLimit): Request<Uint8Array> | Promise<Uint8Array> {
    const waitFor = () => this.#all("get", [key], limit).then(([value = new Uint8Array(0)]) => value);
    if (!this.#link.main.ownDialect) return waitFor();
    // A server of this package answers a GET of an absent key like one of an empty value: only then check the key.
    const reply = () => (input: InputBuffer) => {
      const value = readBytes(input);
      return value === incomplete || value.length > 0 ? value : waitFor();
    };
    return new KeyRequest("get", QueryType.GET, key, true, reply);
  }

  /** The values of several keys. */
  many(keys: readonly string[], limit: CallLimit): Request<Uint8Array[]> | Promise<Uint8Array[]> {
    if (keys.length === 0) return Promise.resolve([]);
    const waitFor = () => this.#all("multiGet", keys, limit);
    if (!this.#link.main.ownDialect) return waitFor();
    const reply = () =>
      thenReader(manyReader(keys.length), (values: Uint8Array[]) =>
        constantReader(values.every(isFilled) ? values : waitFor()),
      );
    return { op: "multiGet", keys, repeatable: true, write: (output) => writeGet(output, keys), reply };
  }

  /** The values of all keys, once they exist. */
  async #all(op: "get" | "multiGet", keys: readonly string[], limit: CallLimit): Promise<Uint8Array[]> {
    const write = (output: OutputBuffer) => writeGet(output, keys, op);
    const get: Request<Uint8Array[]> = { op, keys, repeatable: true, write, reply: () => manyReader(keys.length) };
    if (!this.#link.main.ownDialect) {
      // PyTorch's legacy server hangs up on a GET of an absent key: check first.
      const { idle } = this.#link.main;
      if (idle || !(await this.#link.request(checking(op, keys), limit))) await this.#waits.until(op, keys, limit);
      return this.#link.request(get, limit);
    }
    const look = checking(op, keys);
    const lookAndGet: Request<Uint8Array[] | undefined> = {
      ...get,
      write: (output) => {
        look.write(output);
        write(output);
      },
      reply: () => thenReader(readU8, (byte) => thenReader(manyReader(keys.length), ifReady(byte))),
    };
    for (;;) {
      const values = await this.#link.request(lookAndGet, limit);
      if (values !== undefined) return values;
      await this.#waits.until(op, keys, limit);
    }
  }
}

function writeGet(output: OutputBuffer, keys: readonly string[], op = "multiGet"): void {
  if (op === "multiGet") {
    writeKeys(output, QueryType.MULTI_GET, keys);
    return;
  }
  output.u8(QueryType.GET);
  output.key(keys[0] ?? "");
}

function isFilled(value: Uint8Array): boolean {
  return value.length > 0;
}

/** Accepts values that were read together with a CHECK, if all keys exist. */
function ifReady(byte: number) {
  return (values: Uint8Array[]) => constantReader(byte === checkReply.READY ? values : undefined);
}
