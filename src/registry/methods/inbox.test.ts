import { describe, expect, test } from "bun:test";
import { DistNetworkError } from "../../errors/index.ts";
import { Inbox } from "./inbox.ts";

const lost = new DistNetworkError("rank 1 is lost");

describe("Inbox", () => {
  test("either side may come first; values of a sender and tag keep their order", async () => {
    const inbox = new Inbox<number>();
    inbox.deliver(1, "a", 1);
    inbox.deliver(1, "a", 2);
    inbox.deliver(1, "b", 3);
    inbox.deliver(0, "a", 4);
    const later = [inbox.take(2, "a"), inbox.take(2, "a")];
    expect(await Promise.all([inbox.take(1, "a"), inbox.take(1, "a"), inbox.take(1, "b")])).toEqual([1, 2, 3]);
    inbox.deliver(2, "a", 5);
    inbox.deliver(2, "a", 6);
    expect(await Promise.all([...later, inbox.take(0, "a")])).toEqual([5, 6, 4]);
  });

  test("what a lost rank sent can be taken, and nothing else; other ranks are not affected", async () => {
    const inbox = new Inbox<number>();
    inbox.deliver(1, "a", 1);
    const [own, other] = [inbox.take(1, "b"), inbox.take(2, "b")];
    inbox.end([1], lost);
    inbox.end([1], new DistNetworkError("later"));
    inbox.deliver(2, "b", 7);
    expect(await own.catch((error: unknown) => error)).toBe(lost);
    expect(await inbox.take(1, "a")).toBe(1);
    expect(await inbox.take(1, "a").catch((error: unknown) => error)).toBe(lost);
    expect(await other).toBe(7);
  });

  test("undefined is a value like others", async () => {
    const inbox = new Inbox<undefined>();
    inbox.deliver(0, "a", undefined);
    expect(await inbox.take(0, "a")).toBeUndefined();
  });
});
