import { expect, test } from "bun:test";
import { InvalidArgumentError } from "../errors/index.ts";
import { BackendType } from "../registry/index.ts";
import { fakeInPlaceOf } from "./fake-in-place-of.ts";

test("has the name and the type of the backend that it replaces", () => {
  expect(fakeInPlaceOf("gloo")).toMatchObject({ name: "gloo", type: BackendType.GLOO });
  expect(fakeInPlaceOf("mine")).toMatchObject({ name: "mine", type: BackendType.CUSTOM });
});

test("refuses what is no name", () => {
  expect(() => fakeInPlaceOf(undefined as never)).toThrow(InvalidArgumentError);
});
