import { describe, expect, test } from "bun:test";
import { InvalidArgumentError } from "../../errors/index.ts";
import { createContainer } from "../../registry/index.ts";
import { CONTROL_HANDLER, getHandler, getHandlerNames, registerHandler, WorkerServer } from "../index.ts";
import { HandlerRequest } from "./handler-request.ts";
import { answerOf, HandlerResponse } from "./handler-response.ts";

const nothing = () => {};

describe("registerHandler", () => {
  test("a handler is known in its container and the child containers only", () => {
    const [parent, other] = [createContainer(), createContainer()];
    const child = parent.createChildContainer();
    registerHandler("mine", nothing, { container: parent });
    registerHandler("child's", nothing, { container: child });
    expect(getHandler("mine", { container: child })).toBe(nothing);
    expect(getHandlerNames({ container: child })).toEqual(expect.arrayContaining(["ping", "mine", "child's"]));
    expect(getHandlerNames({ container: parent })).not.toContain("child's");
    expect(getHandlerNames({ container: other })).not.toContain("mine");
  });

  test("refuses a name that is taken, with c10d's text", () => {
    const container = createContainer();
    registerHandler("mine", nothing, { container });
    for (const name of ["mine", "ping", "dump_traceback"]) {
      expect(() => registerHandler(name, nothing, { container })).toThrow(
        new InvalidArgumentError(`Handler ${name} already registered`),
      );
      const child = container.createChildContainer();
      expect(() => registerHandler(name, nothing, { container: child })).toThrow("already registered");
    }
  });

  test("an unknown handler", () => {
    expect(() => getHandler("nope", { container: createContainer() })).toThrow(
      new InvalidArgumentError("Failed to find handler nope"),
    );
  });

  test.each<[string, unknown, unknown, unknown]>([
    ["no name", "", nothing, {}],
    ["a name that is no part of a path", "a/b", nothing, {}],
    ["a name that is no text", 5, nothing, {}],
    ["a handler that is no function", "a", {}, {}],
    ["options that are no object", "a", nothing, 5],
    ["a container that is none", "a", nothing, { container: {} }],
    ["an option that is misspelt", "a", nothing, { duringWit: true }],
  ])("refuses %s", (_, name, handle, options) => {
    expect(() => registerHandler(name as never, handle as never, options as never)).toThrow(InvalidArgumentError);
  });

  test("the token does the same, and replaces what is built in", async () => {
    const container = createContainer();
    container.register(CONTROL_HANDLER, {
      useValue: { name: "pyspy_dump", handle: (_, response) => response.setContent("native stacks", "text/plain") },
    });
    using server = new WorkerServer("127.0.0.1", 0, { container });
    // Also one that is registered after the server has started.
    registerHandler("late", (_, response) => response.setStatus(204), { container });
    const post = (name: string) => fetch(`${server.url}/handler/${name}`, { method: "POST" });
    expect(await (await post("pyspy_dump")).text()).toBe("native stacks");
    expect((await post("late")).status).toBe(204);
  });
});

describe("what a handler receives and answers", () => {
  test("the last of several parameters with the same name counts", () => {
    const request = new HandlerRequest(
      [
        ["a", "1"],
        ["a", "2"],
      ],
      new Uint8Array([7]),
    );
    expect([request.getParam("a"), request.getParam("b"), [...request.params], [...request.body()]]).toEqual([
      "2",
      "",
      [["a", "2"]],
      [7],
    ]);
  });

  test("status 200 without content is the default", () => {
    expect(answerOf(new HandlerResponse())).toEqual({ status: 200, contentType: undefined, body: new Uint8Array(0) });
  });

  test.each<[string, (response: HandlerResponse) => void]>([
    ["a status of 100", (response) => response.setStatus(100)],
    ["a status of 600", (response) => response.setStatus(600)],
    ["a status that is a text", (response) => response.setStatus("200" as never)],
    ["a content that is a number", (response) => response.setContent(5 as never, "text/plain")],
    ["no type", (response) => response.setContent("", "")],
    ["a type of two lines", (response) => response.setContent("", "text/plain\r\nSet-Cookie: a=b")],
  ])("refuses %s", (_, act) => {
    expect(() => act(new HandlerResponse())).toThrow(InvalidArgumentError);
  });
});
