import { expect, test } from "bun:test";
import { OpType } from "../collectives/op-type.ts";
import { WaitCounter } from "../time/index.ts";
import { blockedSliceMs, isServingBlocked, serveBlocked, serveWhileBlocked } from "./blocked-thread.ts";
import { TestWork } from "./fixtures/test-work.ts";

test("services of a blocked thread run between its slices, until they are disposed of", () => {
  expect(blockedSliceMs()).toBe(Number.POSITIVE_INFINITY);
  const seen: boolean[] = [];
  const service = () => void seen.push(isServingBlocked());
  const first = serveWhileBlocked(service);
  const second = serveWhileBlocked(service);
  expect(blockedSliceMs()).toBe(100);
  serveBlocked();
  expect(seen).toEqual([true, true]);
  first[Symbol.dispose]();
  first[Symbol.dispose]();
  serveBlocked();
  expect(seen).toHaveLength(3);
  second[Symbol.dispose]();
  expect([blockedSliceMs(), isServingBlocked()]).toEqual([Number.POSITIVE_INFINITY, false]);
});

test("a wait is counted only while somebody reads the counters: a service alone does not ask for them", () => {
  const calls = () =>
    Object.entries(WaitCounter.values()).find(([name]) => name.endsWith("Work__wait.send"))?.[1].total_calls ?? 0;
  const wait = () => void new TestWork({ opType: OpType.SEND }).wait();
  const before = calls();
  using _service = serveWhileBlocked(() => {});
  wait();
  expect(calls()).toBe(before);
  {
    using _reader = WaitCounter.read();
    wait();
  }
  wait();
  expect(calls()).toBe(before + 1);
});
