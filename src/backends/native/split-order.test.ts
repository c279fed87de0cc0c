import { describe, expect, test } from "bun:test";
import { OpType } from "../../collectives/op-type.ts";
import { ManualClock } from "../../testing/manual-clock.ts";
import { Work } from "../../work/index.ts";
import { LazyWork } from "./lazy-work.ts";
import { SplitOrder, splitting } from "./split-order.ts";

function setup() {
  const clock = new ManualClock();
  const order = new SplitOrder(clock);
  const events: string[] = [];
  const hold = (name: string, limitMs = 1000): Work<void> => {
    const init = { opType: OpType.ALLREDUCE, op: "allReduce" };
    const work = new LazyWork(init, undefined, splitting);
    order.hold([work], limitMs, () => {
      events.push(name);
      return [Work.completed(undefined, init)];
    });
    return work;
  };
  const place = (name: string) => {
    const made = order.place();
    made.begun.then(() => events.push(name));
    return made;
  };
  return { clock, order, events, hold, place };
}

describe("order of splits and ops", () => {
  test("is that of the calls", async () => {
    const { order, events, hold, place } = setup();
    expect(order.holds).toBeFalse();
    const first = place("first");
    const a = hold("a");
    const second = place("second");
    const b = hold("b");
    expect(order.waiting).toBe(2);
    await Bun.sleep(1);
    expect(events).toEqual(["first"]);
    first[Symbol.dispose]();
    await a;
    await Bun.sleep(1);
    expect(events).toEqual(["first", "a", "second"]);
    let flows = false;
    const flowing = order.flowing().then(() => {
      flows = true;
    });
    await Bun.sleep(1);
    expect(flows).toBeFalse();
    second[Symbol.dispose]();
    second[Symbol.dispose]();
    await Promise.all([b, flowing]);
    expect(events).toEqual(["first", "a", "second", "b"]);
    expect([order.holds, order.waiting]).toEqual([false, 0]);
  });

  test("does not wait for a place that was given up before its turn", async () => {
    const { events, hold, place } = setup();
    const first = place("first");
    const second = place("second");
    const a = hold("a");
    second[Symbol.dispose]();
    await Bun.sleep(1);
    expect(events).toEqual(["first"]);
    first[Symbol.dispose]();
    await a;
    expect(events).toEqual(["first", "a"]);
  });

  test("holds ops no longer than their time-out, nor when the group has failed", async () => {
    const { clock, order, events, hold, place } = setup();
    using _ = place("first");
    const a = hold("a", 50);
    clock.advance(49);
    expect(order.waiting).toBe(1);
    clock.advance(1);
    await a;
    const b = hold("b");
    order.flush();
    await b;
    expect(events.filter((each) => each !== "first")).toEqual(["a", "b"]);
  });

  test("wait() of an op that is held would never return", () => {
    const { hold, place } = setup();
    using _ = place("first");
    expect(() => hold("a").wait()).toThrow("is still being made");
  });
});
