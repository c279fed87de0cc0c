import { expect, test } from "bun:test";
import { watchReturned } from "./user-code.ts";

test("what is no thenable is not watched", () => {
  const none = [undefined, null, 0, "then", true, Symbol("then"), {}, () => {}, { then: 1 }];
  for (const value of none) expect(watchReturned(value, () => {})).toBeUndefined();
});

test("the end of a thenable is waited for, and its failure is passed on once", async () => {
  const failures: unknown[] = [];
  const settled = (value: unknown) => watchReturned(value, (error) => void failures.push(error));
  const end = Promise.withResolvers<string>();
  let isOver = false;
  const over = settled({ then: end.promise.then.bind(end.promise) })?.then(() => {
    isOver = true;
  });
  await Bun.sleep(1);
  expect(isOver).toBe(false);
  end.resolve("done");
  await over;
  expect([isOver, failures]).toEqual([true, []]);
  await settled({
    then(_: unknown, reject: (reason: string) => void) {
      reject("first");
      reject("second");
      throw new Error("third");
    },
  });
  expect(failures).toEqual(["first"]);
});
