import { expect, test } from "bun:test";
import fc from "fast-check";
import { RawConnection } from "../fixtures/raw-connection.ts";
import { TCPStoreServer } from "../server/server.ts";
import { InputBuffer } from "./input-buffer.ts";
import { OutputBuffer } from "./output-buffer.ts";
import { QueryType } from "./protocol.ts";
import { RequestParser } from "./request-parser.ts";

/** Cuts bytes at the given positions. */
function cut(bytes: Uint8Array, positions: readonly number[]): Uint8Array[] {
  const at = [...new Set(positions.map((position) => position % (bytes.length + 1)))].sort((a, b) => a - b);
  return [0, ...at].map((start, i) => bytes.subarray(start, at[i] ?? bytes.length)).filter((part) => part.length > 0);
}

function drain(output: OutputBuffer, step = Number.POSITIVE_INFINITY): Uint8Array {
  const parts: Uint8Array[] = [];
  const sink = {
    write: (bytes: Uint8Array, offset: number, length: number) => {
      const taken = new Uint8Array(bytes.subarray(offset, offset + Math.min(step, length)));
      parts.push(taken);
      return taken.length;
    },
  };
  while (!output.flush(sink));
  return Buffer.concat(parts);
}

test("an input buffer returns what was written to an output buffer, however it is cut", () => {
  const sizes = fc.oneof(fc.nat(40), fc.constantFrom(1_000, 16_383, 16_384, 70_000));
  fc.assert(
    fc.property(
      fc.array(fc.tuple(sizes, fc.boolean()), { maxLength: 12 }),
      fc.array(fc.nat(), { maxLength: 8 }),
      fc.integer({ min: 1, max: 50_000 }),
      (values, positions, step) => {
        const output = new OutputBuffer();
        const sent = values.map(([size, keep], i) => {
          const value = new Uint8Array(size).fill(i + 1);
          output.u8(i);
          if (keep) output.keep(value);
          else output.copy(value);
          return value;
        });
        const length = output.length;
        const stream = drain(output, step);
        expect([stream.length, output.length, output.taken]).toEqual([length, 0, length]);
        const input = new InputBuffer();
        let read = 0;
        let size = -1;
        for (const part of cut(stream, positions)) {
          input.push(part);
          for (;;) {
            if (size < 0) {
              if (input.length < 9) break;
              expect(input.u8()).toBe(read);
              size = input.u64();
            }
            if (input.length < size) break;
            expect(Buffer.compare(input.bytes(size), sent[read++] ?? new Uint8Array(0))).toBe(0);
            size = -1;
          }
        }
        expect([read, input.length]).toEqual([sent.length, 0]);
      },
    ),
    { numRuns: 200 },
  );
});

test("requests are read the same way, however they are cut", () => {
  const name = fc.string({ maxLength: 12 });
  const request = fc.record({ type: fc.constantFrom(...Object.values(QueryType)), key: name, value: name });
  fc.assert(
    fc.property(fc.array(request, { maxLength: 20 }), fc.array(fc.nat(), { maxLength: 30 }), (requests, positions) => {
      const output = new OutputBuffer();
      output.u8(QueryType.VALIDATE);
      output.u32(0x3c85f7ce);
      for (const { type, key, value } of requests) writeRequest(output, type, key, value);
      const stream = drain(output);
      const read = (parts: readonly Uint8Array[]) => {
        const input = new InputBuffer();
        const parser = new RequestParser(input);
        const seen: unknown[] = [];
        for (const part of parts) {
          input.push(part);
          while (parser.next()) {
            const { type, key, keys, value, expected, amount, nonce } = parser;
            seen.push([type, key, [...keys], Buffer.from(value).toString(), [...expected], amount, nonce]);
          }
        }
        return { seen, rest: input.length };
      };
      const whole = read([stream]);
      expect(whole.rest).toBe(0);
      expect(whole.seen.length).toBeGreaterThanOrEqual(requests.length);
      expect(read(cut(stream, positions))).toEqual(whole);
    }),
    { numRuns: 300 },
  );
});

function writeRequest(output: OutputBuffer, type: QueryType, key: string, value: string): void {
  output.u8(type);
  switch (type) {
    case QueryType.VALIDATE:
      output.u32(0x3c85f7ce);
      break;
    case QueryType.PING:
      output.u32(key.length);
      break;
    case QueryType.ADD:
    case QueryType.BARRIER:
      output.text(key);
      output.i64(BigInt(value.length));
      break;
    case QueryType.COMPARE_SET:
      output.text(key);
      output.text(value);
      output.text(key);
      break;
    case QueryType.SET:
    case QueryType.APPEND:
    case QueryType.QUEUE_PUSH:
      output.text(key);
      output.text(value);
      break;
    case QueryType.CHECK:
    case QueryType.WAIT:
    case QueryType.MULTI_GET:
      output.u64(2);
      output.text(key);
      output.text(value);
      break;
    case QueryType.MULTI_SET:
      output.u64(2);
      for (const text of [key, value, value, key]) output.text(text);
      break;
    case QueryType.GET:
    case QueryType.DELETE_KEY:
    case QueryType.QUEUE_POP:
    case QueryType.QUEUE_LEN:
      output.text(key);
      break;
    case QueryType.CANCEL_WAIT:
    case QueryType.GETNUMKEYS:
    case QueryType.LIST_KEYS:
      break;
  }
}

test("random frames do no harm to the server or to other clients", async () => {
  await using server = await TCPStoreServer.listen({ host: "127.0.0.1", port: 0 });
  const hello = Uint8Array.fromHex("00cef7853c");
  const client = await RawConnection.open(server.port);
  client.send(hello);
  const frame = fc.oneof(
    fc.uint8Array({ maxLength: 64 }),
    fc
      .tuple(fc.nat(20), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), fc.uint8Array({ maxLength: 32 }))
      .map(([type, n, rest]) => {
        const header = new DataView(new ArrayBuffer(9));
        header.setUint8(0, type);
        header.setBigUint64(1, n % 3n === 0n ? n : n % 40n, true);
        return Buffer.concat([new Uint8Array(header.buffer), rest]);
      }),
  );
  await fc.assert(
    fc.asyncProperty(fc.boolean(), fc.array(frame, { maxLength: 30 }), async (validates, frames) => {
      const raw = await RawConnection.open(server.port);
      raw.send(Buffer.concat(validates ? [hello, ...frames] : frames));
      client.send("0d 2a000000");
      expect(await client.receive(4)).toBe("2a000000");
      raw.close();
    }),
    { numRuns: 500 },
  );
  client.close();
  expect(await server.drained(2_000)).toBe(true);
}, 30_000);
