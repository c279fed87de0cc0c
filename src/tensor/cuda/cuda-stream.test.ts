import { afterAll, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { cuda } from "../cuda.ts";
import { currentStreamOf } from "../device-streams.ts";
import { events, faults, Hold, streams } from "./fixtures/cuda-emulator.ts";

setDefaultTimeout(60_000);

const numbers = Float32Array.of(1, 2, 3, 4);
const current = (index: number) => currentStreamOf({ type: "cuda", index });

beforeEach(() => {
  for (const index of [0, 1]) cuda.setStream(cuda.defaultStream(index));
});
afterAll(() => expect(faults()).toBe("0 faults"));

describe("streams", () => {
  test("run side by side, each in order", async () => {
    using first = new cuda.CudaStream();
    using second = new cuda.CudaStream({ priority: "high" });
    using x = cuda.zeros("float32", 4, { stream: first });
    using y = cuda.zeros("float32", 4, { stream: second });
    {
      using _hold = new Hold(first);
      x.copyFrom(numbers, { stream: first });
      expect<unknown>(await y.copyFrom(numbers, { stream: second }).toHost({ stream: second })).toEqual(numbers);
      expect([first.query(), second.query()]).toEqual([false, true]);
    }
    await first.synchronize();
    expect(first.query()).toBe(true);
    expect<unknown>(await x.toHost({ stream: second })).toEqual(numbers);
  });

  test("have the priorities of the device", () => {
    const priorityOf = (priority?: "high" | "normal" | number): number | undefined => {
      using stream = new cuda.CudaStream(priority === undefined ? {} : { priority });
      return stream.priority;
    };
    expect([priorityOf(), priorityOf("normal"), priorityOf("high"), priorityOf(-2)]).toEqual([0, 0, -5, -2]);
    expect([priorityOf(7), priorityOf(-100)]).toEqual([0, -5]);
    expect(cuda.defaultStream().priority).toBeUndefined();
    expect(() => priorityOf(0.5)).toThrow('priority must be "high", "normal" or a whole number, got number 0.5');
    expect(() => priorityOf("low" as never)).toThrow('got "low"');
    expect(() => new cuda.CudaStream(null as never)).toThrow("options must be an object, got null");
  });

  test("wait for others, also of another device", async () => {
    using first = new cuda.CudaStream({ device: 0 });
    using second = new cuda.CudaStream({ device: 1 });
    using x = cuda.zeros("float32", 4, { stream: first });
    using y = cuda.zeros("float32", 4, { stream: second });
    const hold = new Hold(first);
    x.copyFrom(numbers, { stream: first });
    second.waitStream(first);
    y.copyFrom(x, { stream: second });
    const copied = y.toHost({ stream: second });
    await Bun.sleep(3);
    expect(second.query()).toBe(false);
    hold[Symbol.dispose]();
    expect<unknown>(await copied).toEqual(numbers);
    second.waitStream(second);
  });

  test("synchronize with a time-out", async () => {
    using stream = new cuda.CudaStream();
    const hold = new Hold(stream);
    await expect(stream.synchronize({ timeout: 10 })).rejects.toMatchObject({
      code: "WAIT_TIMEOUT",
      name: "DistTimeoutError",
    });
    expect(() => stream.synchronizeSync({ timeout: 10 })).toThrow("waited 10 ms for the device");
    hold[Symbol.dispose]();
    await stream.synchronize();
    stream.synchronizeSync({ timeout: "1s" });
  });

  test("return to a pool when they are disposed of, and cannot be used any more", async () => {
    using used = new cuda.CudaStream({ device: 1, priority: -3 });
    const { handle } = used;
    await used.synchronize();
    const before = streams();
    used[Symbol.dispose]();
    used[Symbol.dispose]();
    expect(() => used.handle).toThrow("the stream of cuda:1 was disposed of");
    expect(() => used.query()).toThrow(expect.objectContaining({ code: "DISPOSED" }));
    expect(() => cuda.zeros("int8", 1, { stream: used })).toThrow("was disposed of");
    expect(() => cuda.setStream(used)).toThrow("was disposed of");
    using next = new cuda.CudaStream({ device: 1, priority: -3 });
    expect(next.handle).toBe(handle);
    // While its work is not done, a stream is not given to anyone else.
    const hold = new Hold(next);
    next[Symbol.dispose]();
    using third = new cuda.CudaStream({ device: 1, priority: -3 });
    expect(third.handle).not.toBe(handle);
    expect(streams()).toBe(before + 1);
    hold[Symbol.dispose]();
  });

  test("that nobody disposed of return there, too", async () => {
    const handles = new Set(Array.from({ length: 20 }, () => new cuda.CudaStream({ device: 3, priority: -4 }).handle));
    let again = -1;
    for (let i = 0; i < 100 && !handles.has(again); i++) {
      Bun.gc(true);
      await Bun.sleep(2);
      const stream = new cuda.CudaStream({ device: 3, priority: -4 });
      again = stream.handle;
      stream[Symbol.dispose]();
    }
    expect(handles).toContain(again);
  });
});

describe("a device", () => {
  test("is synchronized with all streams of it, those that were disposed of too, and no others", async () => {
    using first = new cuda.CudaStream({ device: 1 });
    using other = new cuda.CudaStream({ device: 2 });
    const gone = new cuda.CudaStream({ device: 1 });
    for (const stream of [first, gone]) {
      const hold = new Hold(stream);
      using _elsewhere = new Hold(other);
      using x = cuda.zeros("float32", 4, { stream });
      if (stream === gone) gone[Symbol.dispose]();
      await cuda.synchronize(0);
      await expect(cuda.synchronize("cuda:1", { timeout: 10 })).rejects.toMatchObject({ code: "WAIT_TIMEOUT" });
      expect(() => cuda.synchronizeSync(1, { timeout: 10 })).toThrow("cuda.synchronizeSync: waited 10 ms");
      const all = cuda.synchronize(1);
      hold[Symbol.dispose]();
      await all;
      expect([first.query(), other.query(), x.isDisposed]).toEqual([true, false, false]);
    }
    cuda.synchronizeSync(1);
    await expect(cuda.synchronize(9)).rejects.toThrow("cuda.synchronize: there is no device 9");
  });

  test("is the current one by default, and its default stream counts", async () => {
    cuda.setDevice(3);
    try {
      const hold = new Hold(cuda.defaultStream());
      await expect(cuda.synchronize(undefined, { timeout: 5 })).rejects.toThrow("waited 5 ms for the device");
      hold[Symbol.dispose]();
      await cuda.synchronize();
      cuda.synchronizeSync();
    } finally {
      cuda.setDevice(0);
    }
  });
});

describe("the current stream", () => {
  test("is the default one, which code that does not use CUDA sees as none", () => {
    expect(current(0)).toBeUndefined();
    expect(cuda.currentStream()).toBe(cuda.defaultStream());
    expect(cuda.defaultStream(1)).toMatchObject({ handle: 0, device: { type: "cuda", index: 1 } });
    using stream = new cuda.CudaStream({ device: 1 });
    cuda.setStream(stream);
    expect(current(0)).toBeUndefined();
    expect(current(1)).toBe(stream);
    expect(cuda.currentStream("cuda:1")).toBe(stream);
    expect(cuda.currentStream(0)).toBe(cuda.defaultStream(0));
    cuda.setStream(cuda.defaultStream(1));
    expect(current(1)).toBeUndefined();
  });

  test("is replaced for a function, also if that throws", () => {
    using outer = new cuda.CudaStream();
    using inner = new cuda.CudaStream();
    const seen = cuda.withStream(outer, () => {
      const before = cuda.currentStream();
      expect(() =>
        cuda.withStream(inner, () => {
          expect(cuda.currentStream()).toBe(inner);
          throw new RangeError("inside");
        }),
      ).toThrow("inside");
      return [before, cuda.currentStream()];
    });
    expect(seen.map((each) => each === outer)).toEqual([true, true]);
    expect(current(0)).toBeUndefined();
    expect(() => cuda.withStream({ handle: 0 } as never, () => 1)).toThrow("must be a CudaStream");
  });

  test("is that of an async function only before its first await", async () => {
    using stream = new cuda.CudaStream();
    const seen: boolean[] = [];
    await cuda.withStream(stream, async () => {
      seen.push(cuda.currentStream() === stream);
      await Promise.resolve();
      seen.push(cuda.currentStream() === stream);
    });
    expect(seen).toEqual([true, false]);
  });

  test("is used by copies and fills", async () => {
    using stream = new cuda.CudaStream();
    const hold = new Hold(stream);
    using x = cuda.withStream(stream, () => cuda.zeros("float32", 4).copyFrom(numbers));
    expect(stream.query()).toBe(false);
    const copied = cuda.withStream(stream, () => x.toHost());
    hold[Symbol.dispose]();
    expect<unknown>(await copied).toEqual(numbers);
  });

  test("is the default one if the one before was disposed of meanwhile", () => {
    const outer = new cuda.CudaStream();
    using inner = new cuda.CudaStream();
    cuda.setStream(outer);
    cuda.withStream(inner, () => outer[Symbol.dispose]());
    expect([outer.isDisposed, inner.isDisposed]).toEqual([true, false]);
    expect(cuda.currentStream()).toBe(cuda.defaultStream());
  });

  test("is the default one after it was disposed of", () => {
    const stream = new cuda.CudaStream();
    cuda.setStream(stream);
    stream[Symbol.dispose]();
    expect(cuda.currentStream()).toBe(cuda.defaultStream());
  });
});

describe("foreign streams", () => {
  test("are used, but not given to others", async () => {
    using own = new cuda.CudaStream({ device: 1 });
    const foreign = cuda.foreignStream(own.handle, 1);
    using x = cuda.zeros("float32", 4, { stream: foreign });
    expect<unknown>(await x.copyFrom(numbers, { stream: foreign }).toHost({ stream: own })).toEqual(numbers);
    foreign[Symbol.dispose]();
    expect(foreign.query()).toBe(true);
    expect(cuda.foreignStream(0).handle).toBe(0);
  });

  test("of another device, and what is no handle, are refused", () => {
    using own = new cuda.CudaStream({ device: 1 });
    expect(() => cuda.foreignStream(own.handle, 0)).toThrow("is not of the primary context of cuda:0");
    for (const handle of [-1, 0.5, Number.NaN, 2 ** 53, "7", undefined, own]) {
      expect(() => cuda.foreignStream(handle as number)).toThrow("handle must be the number of a stream");
    }
  });
});

describe("events", () => {
  test("are done when what they recorded is", async () => {
    using stream = new cuda.CudaStream();
    using event = new cuda.CudaEvent();
    expect([event.query(), event.device, event.handle]).toEqual([true, undefined, undefined]);
    await event.synchronize();
    const hold = new Hold(stream);
    expect(stream.record(event)).toBe(event);
    expect([event.query(), event.device]).toEqual([false, { type: "cuda", index: 0 }]);
    await expect(event.synchronize({ timeout: 10 })).rejects.toThrow("CudaEvent.synchronize: waited 10 ms");
    expect(() => event.synchronizeSync({ timeout: 10 })).toThrow("waited 10 ms");
    hold[Symbol.dispose]();
    await event.synchronize();
    expect(event.query()).toBe(true);
    event.synchronizeSync();
  });

  test("let a stream wait, also after they were disposed of", async () => {
    using first = new cuda.CudaStream();
    using second = new cuda.CudaStream();
    const hold = new Hold(first);
    {
      using event = first.record();
      second.waitEvent(event);
      second.waitEvent(new cuda.CudaEvent());
    }
    using x = cuda.zeros("int8", 1, { stream: second });
    expect([x.length, second.query()]).toEqual([1, false]);
    hold[Symbol.dispose]();
    await second.synchronize();
  });

  test("measure time", async () => {
    using stream = new cuda.CudaStream();
    using begin = new cuda.CudaEvent({ timing: true });
    using end = new cuda.CudaEvent({ timing: true });
    expect(() => begin.elapsedMs(end)).toThrow("this event was not recorded");
    stream.record(begin);
    const hold = new Hold(stream);
    stream.record(end);
    await begin.synchronize();
    expect(() => begin.elapsedMs(end)).toThrow(expect.objectContaining({ code: "EVENT_PENDING" }));
    await Bun.sleep(20);
    hold[Symbol.dispose]();
    await end.synchronize();
    expect(begin.elapsedMs(end)).toBeGreaterThan(15);
    expect(end.elapsedMs(end)).toBe(0);
    using untimed = stream.record();
    expect(() => begin.elapsedMs(untimed)).toThrow("the other event has no timing");
    using other = new cuda.CudaEvent({ timing: true });
    cuda.defaultStream(1).record(other);
    await other.synchronize();
    expect(() => begin.elapsedMs(other)).toThrow("of different devices");
    expect(() => cuda.defaultStream(0).record(other)).toThrow("the event is of cuda:1, the stream of cuda:0");
  });

  test("refuse to be used after they were disposed of, and what is none", () => {
    const event = cuda.defaultStream().record();
    event[Symbol.dispose]();
    event[Symbol.dispose]();
    expect(() => event.query()).toThrow("CudaEvent.query: the event was disposed of");
    expect(() => cuda.defaultStream().record(event)).toThrow(expect.objectContaining({ code: "DISPOSED" }));
    expect(() => cuda.defaultStream().waitEvent(event)).toThrow("was disposed of");
    expect(() => cuda.defaultStream().waitEvent(7 as never)).toThrow("event must be a CudaEvent, got number 7");
    expect(() => new cuda.CudaEvent({ timing: 1 as never })).toThrow("timing must be true or false");
  });

  test("that nobody disposed of are destroyed", async () => {
    const before = events();
    for (let i = 0; i < 200; i++) cuda.defaultStream().record();
    for (let i = 0; i < 100 && events() > before + 20; i++) {
      Bun.gc(true);
      await Bun.sleep(2);
    }
    expect(events()).toBeLessThanOrEqual(before + 20);
  });
});
