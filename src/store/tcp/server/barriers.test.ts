import { expect, test } from "bun:test";
import fc from "fast-check";
import { KeyValueTable } from "../../key-value-table.ts";
import { Barriers } from "./barriers.ts";

const step = fc.record({
  kind: fc.constantFrom("arrive", "arrive", "arrive", "cancel", "reset"),
  key: fc.constantFrom("/a", "/b"),
  worldSize: fc.integer({ min: -1, max: 8 }),
  which: fc.nat(30),
});

test("random arrivals and cancellations release the same waiters as a list would", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
      const table = new KeyValueTable();
      const barriers = new Barriers(table);
      const expected: { readonly key: string; readonly worldSize: number; readonly id: number }[] = [];
      const released: number[] = [];
      const wanted: number[] = [];
      const cancels: (() => void)[] = [];
      for (const { kind, key, worldSize, which } of steps) {
        if (kind === "arrive") {
          const id = cancels.length;
          expected.push({ key, worldSize, id });
          cancels.push(barriers.arrive(key, worldSize, () => released.push(id)));
          const arrived = Number(new TextDecoder().decode(table.get(key)));
          const free = expected.filter((each) => each.key === key && each.worldSize <= arrived);
          wanted.push(...free.map((each) => each.id));
          for (const each of free) expected.splice(expected.indexOf(each), 1);
        } else if (kind === "reset") {
          table.delete(key);
        } else if (cancels.length > 0) {
          const id = which % cancels.length;
          cancels[id]?.();
          const at = expected.findIndex((each) => each.id === id);
          if (at >= 0) expected.splice(at, 1);
        }
        expect(released.toSorted((a, b) => a - b)).toEqual(wanted.toSorted((a, b) => a - b));
      }
    }),
  );
});

test("a million arrivals are released at once", () => {
  const barriers = new Barriers(new KeyValueTable());
  const count = 1_000_000;
  let released = 0;
  for (let i = 0; i < count; i++) barriers.arrive("/a", count, () => released++);
  expect(released).toBe(count);
});
