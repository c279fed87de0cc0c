import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { viewTensor } from "../../tensor/index.ts";
import { messageMismatchText } from "./call-text.ts";
import type { Message } from "./exchange/exchange-port.ts";

/** Expected texts of the native tests, whose parts may be several literals. */
const native = readFileSync(new URL("../../../native/ops/tests/call_text_test.cc", import.meta.url), "utf8").replace(
  /"\s+"/g,
  "",
);

test("messages that differ are described with the text of the native engine", () => {
  const message = (rank: number, data: Float32Array | BigInt64Array) =>
    ({ rank, tag: 5, tensor: viewTensor(data) }) as Message;
  const text = messageMismatchText(message(0, new Float32Array(4)), message(1, new BigInt64Array(1)));
  expect(text).toBe("rank 0 sent float32[4] with tag 5, rank 1 was to receive int64[1]");
  expect(native).toContain(`message_mismatch_text(5, 0, C10D_FLOAT32, 16, 1, C10D_INT64, 8) ==\n        "${text}"`);
});
