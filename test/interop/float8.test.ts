import { beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { tensor } from "../../src/tensor/index.ts";
import { describeWithTorch } from "./torch.ts";

setDefaultTimeout(60_000);

const program = `
import json, sys, torch
numbers = torch.tensor(json.load(sys.stdin), dtype=torch.int64).to(torch.int32).view(torch.float32)
results = {}
for name in sys.argv[1:]:
    dtype = getattr(torch, name)
    every = torch.arange(256, dtype=torch.uint8).view(dtype).float().view(torch.int32)
    results[name] = [numbers.to(dtype).view(torch.uint8).tolist(), every.tolist()]
print(json.dumps(results))`;

const dtypes = ["float8_e4m3fn", "float8_e5m2"] as const;

describeWithTorch("8-bit floats, as PyTorch converts them", (python) => {
  // All signs and exponents, with fractions at and next to ties.
  const words = Array.from({ length: 512 }, (_, top) => top).flatMap((top) =>
    Array.from({ length: 32 }, (_, i) => i * 2 ** 18).flatMap((fraction) =>
      [0, 1, 2 ** 18 - 1].map((off) => top * 2 ** 23 + fraction + off),
    ),
  );
  const numbers = new Float32Array(Uint32Array.from(words).buffer);
  let results: Record<string, [encoded: number[], decoded: number[]]>;
  beforeAll(async () => {
    const child = Bun.spawn([python, "-c", program, ...dtypes], {
      stdin: Buffer.from(JSON.stringify(words.map((word) => word | 0))),
      stdout: "pipe",
      stderr: "inherit",
    });
    results = JSON.parse(await new Response(child.stdout).text());
  });

  test.each(dtypes)("%s", (dtype) => {
    const [encoded, decoded] = results[dtype] ?? [[], []];
    // PyTorch keeps the sign of a NaN, which JavaScript numbers do not expose.
    const expected = encoded.map((bits, i) => (Number.isNaN(numbers[i]) ? bits & 0x7f : bits));
    expect(Array.from(tensor([...numbers], { dtype }).data, Number)).toEqual(expected);
    const every = tensor(
      Uint8Array.from({ length: 256 }, (_, bits) => bits),
      { dtype },
    );
    expect(every.toNumbers()).toEqual([...new Float32Array(Int32Array.from(decoded).buffer)]);
  });
});
