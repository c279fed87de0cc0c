import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { copyFileSync, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { files, page } from "./code/write-a-backend.ts";
import { CodeFolder, root } from "./code-folder.ts";

setDefaultTimeout(60_000);

// test/packaging runs the files of the tutorial. This tests the page's other code, with the software device's shim.

const [, console = ""] = /^```console\n([\s\S]*?)^```/m.exec(page) ?? [];

let folder: CodeFolder;
beforeAll(() => {
  folder = new CodeFolder("writing", files);
  copyFileSync(join(root, "build/release/lib/libc10d_software_device.so"), join(folder.path, "libc10d_card.so"));
});
afterAll(() => folder[Symbol.dispose]());

test("its settings reach the shim, and its tensors are on a device", async () => {
  folder.write(
    "job.ts",
    `import { HashStore, initProcessGroup, registerBackend } from "bun-c10d";
import card from "./card-backend.ts";
registerBackend(card);
for (const options of [{ overtake: true }, { overtake: false }, undefined]) {
  const place = { store: new HashStore(), rank: 0, worldSize: 1, deviceId: "cuda:1" };
  await using group = await initProcessGroup({ backend: "cuda:card", ...place, options } as never);
  await group.barrier();
  const { capabilities } = group.backend();
  console.log(JSON.stringify(group.boundDevice), capabilities.messagesInOrder ?? false);
}
const refused = initProcessGroup({ backend: "cuda:card", store: new HashStore(), rank: 0, worldSize: 1, options: { over: 1 } } as never);
console.log(await refused.catch((error: Error) => error.message));
`,
  );
  const { stdout, stderr } = await folder.run(["job.ts"]);
  expect(stderr).toBe("");
  const device = '{"type":"cuda","index":1}';
  expect(stdout.trim().split("\n")).toEqual([
    `${device} false`,
    `${device} true`,
    `${device} true`,
    expect.stringContaining("card has no option over"),
  ]);
});

test("the native tests that the page names exist", () => {
  const targets = [...(/--target (.+)/.exec(console)?.[1]?.split(" ") ?? [])];
  const folders = ["native/tests", "native/engine/tests"];
  const lists = folders.map((folder) => readFileSync(join(root, folder, "CMakeLists.txt"), "utf8")).join("");
  expect(targets).toHaveLength(2);
  for (const target of targets) expect(lists).toContain(`add_unit_tests(${target.replace(/_test$/, "")} `);
  const [, name = ""] = /-tc="([^"]+)"/.exec(console) ?? [];
  expect(readFileSync(join(root, "native/tests/stream_test.cc"), "utf8")).toContain(`TEST_CASE("${name}")`);
  const files = [...page.matchAll(/`(\w+_(?:test|scenarios)\.cc)`/g)].map(([, file = ""]) => file);
  expect(files.length).toBeGreaterThan(4);
  expect(files.filter((file) => !folders.some((folder) => existsSync(join(root, folder, file))))).toEqual([]);
  const transport = readFileSync(join(root, "native/engine/transport.h"), "utf8");
  for (const method of ["has_streams", "synchronize", "start_batch"]) expect(transport).toContain(` ${method}(`);
});
