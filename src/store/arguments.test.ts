import { expect, test } from "bun:test";
import { InvalidArgumentError } from "../errors/index.ts";
import { FileStore } from "./file/file-store.ts";
import { HashStore } from "./hash-store.ts";
import { RedisStore } from "./redis/redis-store.ts";
import { TCPStore } from "./tcp/index.ts";

type Untyped = new (...args: unknown[]) => unknown;

test.each<[string, unknown, unknown[], string]>([
  ["TCPStore", TCPStore, ["127.0.0.1", 29500, 2, true], "`await TCPStore.connect({ host, port })`"],
  ["FileStore", FileStore, ["/tmp/store", 2], "`await FileStore.open(path)`"],
  ["RedisStore", RedisStore, ["redis://127.0.0.1"], "`await RedisStore.connect(url)`"],
])("new %s, as in PyTorch, says how to create a store", (name, made, args, how) => {
  const make = () => new (made as Untyped)(...args);
  expect(make).toThrow(InvalidArgumentError);
  expect(make).toThrow(`a ${name} is created by ${how}, not by new`);
});

test("TCPStore.connect without options", async () => {
  const error = await TCPStore.connect(undefined as never).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(InvalidArgumentError);
  expect(String(error)).toContain("options must be an object such as { host, port }, got undefined");
});

test("errors show invalid values and amounts unchanged", async () => {
  const store = new HashStore();
  await expect(store.set("key", new Float32Array(1) as never)).rejects.toThrow(
    "a store value must be a Uint8Array or a string, got Float32Array",
  );
  await expect(store.add("key", "1" as never)).rejects.toThrow('must be an integer within ±2^53, got "1"');
  await expect(FileStore.open("/tmp/store", "2" as never)).rejects.toThrow('must be a positive integer, got "2"');
});
