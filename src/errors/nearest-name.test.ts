import { describe, expect, test } from "bun:test";
import { didYouMean, nearestName } from "./nearest-name.ts";

describe("nearestName", () => {
  test.each([
    ["threds", ["threads", "host"], "threads"],
    ["thread", ["host", "threads"], "threads"],
    ["interfaces", ["interface"], "interface"],
    ["hots", ["host", "threads"], undefined],
    ["hosts", ["host", "threads"], "host"],
    ["GLOU", ["gloo", "fake"], "gloo"],
    ["colour", ["host", "threads"], undefined],
    ["x", ["host"], undefined],
    ["", ["a"], undefined],
    ["anything", [], undefined],
  ])("%s among %j", (written, names, expected) => {
    expect(nearestName(written, names)).toBe(expected as string);
  });

  test("as the end of a message", () => {
    expect(didYouMean("threds", ["threads"])).toBe('; did you mean "threads"?');
    expect(didYouMean("colour", ["threads"])).toBe("");
  });
});
