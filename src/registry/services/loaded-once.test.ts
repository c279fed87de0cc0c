import { expect, test } from "bun:test";
import { loadedOnce } from "./loaded-once.ts";

test("callers of the same moment get the module in the order of their calls", async () => {
  const { promise, resolve } = Promise.withResolvers<string>();
  let loads = 0;
  const load = loadedOnce(() => {
    loads++;
    return promise;
  });
  const order: number[] = [];
  const callers = [0, 1, 2].map(async (i) => {
    const module = await load();
    order.push(i);
    return module;
  });
  resolve("module");
  expect(await Promise.all(callers)).toEqual(["module", "module", "module"]);
  expect({ order, loads }).toEqual({ order: [0, 1, 2], loads: 1 });
  expect(await load()).toBe("module");
  expect(loads).toBe(1);
});

test("a failure is not kept: the next caller tries again", async () => {
  let loads = 0;
  const load = loadedOnce(async () => {
    if (++loads === 1) throw new Error("no descriptor is free");
    return "module";
  });
  await expect(Promise.all([load(), load()])).rejects.toThrow("no descriptor is free");
  expect(await load()).toBe("module");
  expect(loads).toBe(2);
});
