import { expect, test } from "bun:test";
import { HashStore } from "../../store/index.ts";
import { PairStore } from "./pair-store.ts";

test("the unique id of a pair is under PyTorch's key, everything else apart from the group's keys", async () => {
  const group = new HashStore();
  const pair = new PairStore(group, "1:3");
  await pair.set("1:3", "id");
  await pair.set("failure/1", "lost");
  await pair.compareSet("failure/first", "", "lost");
  await pair.add("counter", 2);
  expect((await group.listKeys()).sort()).toEqual([
    "1:3",
    "messages/1:3/counter",
    "messages/1:3/failure/1",
    "messages/1:3/failure/first",
  ]);
  expect(await pair.check(["1:3", "failure/1"])).toBe(true);
  expect(await pair.check(["failure/0"])).toBe(false);
  expect(Buffer.from(await pair.get("failure/first")).toString()).toBe("lost");
  expect(await pair.deleteKey("counter")).toBe(true);
  expect(await group.check(["messages/1:3/counter"])).toBe(false);
});
