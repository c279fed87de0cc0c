import { describe, expect, test } from "bun:test";
import { addCallSite, addToError, captureCallSite, DistTimeoutError, framesOf, lineOf } from "./index.ts";

/** Not a tail call: the function keeps its frame. */
function place() {
  const site = captureCallSite();
  expect(site).toBeInstanceOf(Error);
  return site;
}

const here = import.meta.path;

describe("a call site", () => {
  test("has the frames of user code, the innermost first", () => {
    const site = place();
    const [frame] = framesOf(site);
    expect(frame).toMatchObject({ name: "place", file: here, line: 6 });
    expect(framesOf(site)).toBe(framesOf(site));
    expect(lineOf(site)).toMatch(/^src\/errors\/call-site\.test\.ts:6:\d+$/);
  });

  test("is captured whatever limit the program has set, which stays as it was", () => {
    const limit = Error.stackTraceLimit;
    try {
      Error.stackTraceLimit = 0;
      expect(lineOf(place())).toBeDefined();
      expect(Error.stackTraceLimit).toBe(0);
    } finally {
      Error.stackTraceLimit = limit;
    }
  });

  test("shows a file outside the current folder with its whole path, and nothing for a stack that it cannot read", () => {
    const site = new Error();
    site.stack = "Error: \n    at step (/elsewhere/train.ts:41:9)\n    at native";
    expect(lineOf(site)).toBe("/elsewhere/train.ts:41:9");
    const empty = new Error();
    empty.stack = "Error";
    expect([lineOf(empty), framesOf(empty)]).toEqual([undefined, []]);
  });

  test("comes before the frames of an error, once", () => {
    const [site, error] = [place(), new DistTimeoutError("two\nlines")];
    addCallSite(error, site);
    const stack = error.stack ?? "";
    expect(stack).toStartWith(`DistTimeoutError: two\nlines\n    at place (${here}:6:`);
    addCallSite(error, place());
    expect(error.stack).toBe(stack);
  });

  test("is not put into an error that cannot be changed, which stays usable", () => {
    const error = Object.freeze(new DistTimeoutError("as it is"));
    addCallSite(error, place());
    addToError(error, "called at a.ts:1:1");
    expect(error.message).toBe("as it is");
  });
});

test("what is added to an error is in its message, its stack and its details, once", () => {
  const error = new DistTimeoutError("timed out.", { op: "allReduce" });
  for (let i = 0; i < 2; i++) addToError(error, "called at $&.ts:1:1", { callSite: "$&.ts:1:1" });
  expect(error.message).toBe("timed out; called at $&.ts:1:1");
  expect(error.stack).toStartWith("DistTimeoutError: timed out; called at $&.ts:1:1\n");
  expect(error.details).toEqual({ op: "allReduce", callSite: "$&.ts:1:1" });
});

test("few frames of this package are kept in an error and in its cause, and all of others", () => {
  const own = import.meta.resolve("./call-site.ts").replace("file://", "");
  const stackOf = (name: string) =>
    [
      `${name}: x`,
      ...[1, 2, 3, 4, 5].map((line) => `    at f${line} (${own}:${line}:1)`),
      "    at g (/app/plugin.ts:9:1)",
    ].join("\n");
  const cause = new Error("x");
  cause.stack = stackOf("Error");
  const error = new DistTimeoutError("x", { cause });
  error.stack = stackOf("DistTimeoutError");
  addCallSite(error, place());
  const names = ({ stack = "" }: Error) => [...stack.matchAll(/at (\S+) \(/g)].map(([, name]) => name);
  expect(names(error).slice(0, 1)).toEqual(["place"]);
  expect(names(error).slice(-4)).toEqual(["f1", "f2", "f3", "g"]);
  expect(names(cause)).toEqual(["f1", "f2", "f3", "g"]);
});
