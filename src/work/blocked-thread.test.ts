import { expect, test } from "bun:test";
import { blockedSliceMs, isServed, isServingBlocked, serveBlocked, serveWhileBlocked } from "./blocked-thread.ts";

test("services of a blocked thread run between its slices, until they are disposed of", () => {
  expect([isServed(), blockedSliceMs()]).toEqual([false, Number.POSITIVE_INFINITY]);
  const seen: boolean[] = [];
  const service = () => void seen.push(isServingBlocked());
  const first = serveWhileBlocked(service);
  const second = serveWhileBlocked(service);
  expect([isServed(), blockedSliceMs()]).toEqual([true, 100]);
  serveBlocked();
  expect(seen).toEqual([true, true]);
  first[Symbol.dispose]();
  first[Symbol.dispose]();
  serveBlocked();
  expect(seen).toHaveLength(3);
  second[Symbol.dispose]();
  expect([isServed(), isServingBlocked()]).toEqual([false, false]);
});
