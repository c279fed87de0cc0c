import { limits, QueryType, validateMagic } from "../../src/store/tcp/wire/protocol.ts";
import type { Random } from "./random.ts";

/** What is wrong with a frame; `good` ones are answered and the connection stays usable. */
export type FrameKind = "good" | "truncated" | "oversized" | "flipped" | "random" | "handshake";

export interface Frame {
  readonly kind: FrameKind;
  readonly bytes: Uint8Array;
}

/** Few keys, so that the stored data does not grow with the number of good frames. */
const keys = Array.from({ length: 64 }, (_, i) => `/fuzz ${i}`) as [string, ...string[]];
const queues = Array.from({ length: 8 }, (_, i) => `/queue ${i}`) as [string, ...string[]];

const u64 = (value: number | bigint): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt.asUintN(64, BigInt(value)));
  return bytes;
};
const text = (value: string | Uint8Array): Buffer => {
  const bytes = Buffer.from(value);
  return Buffer.concat([u64(bytes.length), bytes]);
};
const frame = (type: number, ...parts: Uint8Array[]): Uint8Array => Buffer.concat([Uint8Array.of(type), ...parts]);

export const validateFrame = Buffer.concat([Uint8Array.of(QueryType.VALIDATE), Buffer.alloc(4)]);
validateFrame.writeUInt32LE(validateMagic, 1);

/** A valid request. Values are replaced and queues emptied as fast as they are filled. */
export function goodFrame(random: Random): Uint8Array {
  const key = text(random.pick(keys));
  const value = text(random.bytes(random.chance(0.01) ? 20_000 : random.below(60)));
  const queue = text(random.pick(queues));
  const list = () => {
    const count = random.below(5);
    return Buffer.concat([u64(count), ...Array.from({ length: count }, () => text(random.pick(keys)))]);
  };
  const pair = () => Buffer.concat([text(random.pick(keys)), text(random.bytes(random.below(30)))]);
  switch (random.below(20)) {
    case 0:
      return validateFrame;
    case 1:
    case 2:
      return frame(QueryType.SET, key, value);
    case 3:
      return frame(QueryType.COMPARE_SET, key, text(random.chance(0.5) ? "" : "v"), value);
    case 4:
      return frame(QueryType.GET, key);
    case 5:
      return frame(QueryType.ADD, text(`/counter ${random.below(9)}`), u64(random.below(1000) - 500));
    case 6:
      return frame(QueryType.CHECK, list());
    case 7:
      return frame(QueryType.WAIT, list());
    case 8:
      return frame(QueryType.GETNUMKEYS);
    case 9:
    case 10:
      return frame(QueryType.DELETE_KEY, key);
    case 11:
      return frame(QueryType.APPEND, key, text(random.bytes(random.below(20))));
    case 12:
      return frame(QueryType.MULTI_GET, list());
    case 13:
      return frame(QueryType.MULTI_SET, u64(2), pair(), pair());
    case 14:
      return frame(QueryType.CANCEL_WAIT);
    case 15:
      return frame(QueryType.PING, random.bytes(4));
    case 16:
      return frame(QueryType.QUEUE_PUSH, queue, text(random.bytes(random.below(60))));
    case 17:
      return Buffer.concat([frame(QueryType.QUEUE_POP, queue), frame(QueryType.QUEUE_POP, queue)]);
    case 18:
      return random.chance(0.5) ? frame(QueryType.QUEUE_LEN, queue) : frame(QueryType.LIST_KEYS);
    default:
      return frame(QueryType.BARRIER, text(`/barrier ${random.below(9)}`), u64(1 + random.below(4)));
  }
}

/** Lengths and counts at the limits, beyond them, and where a sign or 2^53 could cause errors. */
const lengths: readonly [bigint, ...bigint[]] = [
  2n ** 64n - 1n,
  2n ** 63n,
  2n ** 63n - 1n,
  2n ** 53n,
  2n ** 32n,
  2n ** 31n,
  BigInt(limits.valueBytes) + 1n,
  BigInt(limits.keyBytes) + 1n,
  BigInt(limits.keys) + 1n,
];

function oversized(random: Random): Uint8Array {
  const length = u64(random.pick(lengths));
  const rest = random.bytes(random.below(40));
  switch (random.below(5)) {
    case 0:
      return frame(QueryType.SET, length, rest);
    case 1:
      return frame(QueryType.SET, text(random.pick(keys)), length, rest);
    case 2:
      return frame(
        random.pick([QueryType.WAIT, QueryType.CHECK, QueryType.MULTI_GET, QueryType.MULTI_SET]),
        length,
        rest,
      );
    case 3:
      return frame(QueryType.MULTI_SET, u64(3), text(random.pick(keys)), length, rest);
    default:
      return frame(QueryType.COMPARE_SET, text(random.pick(keys)), text(""), length, rest);
  }
}

/** A frame of any kind; after a bad one nothing can be expected of the connection. */
export function anyFrame(random: Random): Frame {
  const roll = random.next();
  if (roll < 0.94) return { kind: "good", bytes: goodFrame(random) };
  const good = goodFrame(random);
  if (roll < 0.955) return { kind: "truncated", bytes: good.subarray(0, random.below(good.length)) };
  if (roll < 0.97) return { kind: "oversized", bytes: oversized(random) };
  if (roll < 0.985) {
    const flipped = Uint8Array.from(good);
    for (let i = 0; i <= random.below(4); i++) {
      const at = random.below(flipped.length);
      flipped[at] = (flipped[at] ?? 0) ^ (1 << random.below(8));
    }
    return { kind: "flipped", bytes: flipped };
  }
  return { kind: "random", bytes: random.bytes(1 + random.below(100)) };
}

/** Starts of the handshake with a secret, correct, truncated or wrong, from a client that does not know it. */
export function handshakeFrames(random: Random): Uint8Array {
  const hello = Buffer.concat([Buffer.from("\xc1c10dsec", "latin1"), random.bytes(32)]);
  switch (random.below(5)) {
    case 0:
      return hello.subarray(0, random.below(hello.length));
    case 1:
      return Buffer.concat([hello, random.bytes(32)]);
    case 2:
      return Buffer.concat([hello, hello]);
    case 3:
      return Buffer.concat([hello, random.bytes(random.below(32))]);
    default: {
      const flipped = Uint8Array.from(hello);
      flipped[random.below(8)] = random.below(256);
      return flipped;
    }
  }
}
