import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const native = fileURLToPath(new URL("../native", import.meta.url));

/**
 * The rooms of `native`, each with those that it may include; every room may include itself, `c10d.h` and
 * `worker_end.h`.
 */
const rooms: Readonly<Record<string, readonly string[]>> = {
  ops: [],
  engine: ["ops"],
  reduction: ["ops"],
  mesh: ["ops", "engine", "reduction"],
  peers: ["ops", "engine", "mesh"],
};

test.each(Object.entries(rooms))("native/%s includes %j and no other room", (room, allowed) => {
  const files = [...new Bun.Glob("*.{h,cc}").scanSync(`${native}/${room}`)];
  expect(files).not.toBeEmpty();
  const wrong = files.flatMap((file) => {
    const source = readFileSync(`${native}/${room}/${file}`, "utf8");
    const included = [...source.matchAll(/#include "([^"]+)"/g)].map(([, path = ""]) => path);
    const isAllowed = (path: string): boolean =>
      ["c10d.h", "worker_end.h"].includes(path) ||
      files.includes(path) ||
      [room, ...allowed].includes(path.split("/")[0] ?? "");
    return included.filter((path) => !isAllowed(path)).map((path) => `${file}: ${path}`);
  });
  expect(wrong).toEqual([]);
});
