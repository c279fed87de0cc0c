import { afterAll, describe, expect, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  existsSync,
  lchownSync,
  mkdtempSync,
  rmSync,
  type Stats,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { rendezvous } from "../../distributed/index.ts";
import { DistStoreError } from "../../errors/index.ts";
import { requireOwnFile } from "./file-owner.ts";
import { FileStore } from "./file-store.ts";

const folder = mkdtempSync(join(tmpdir(), "file-owner-"));
afterAll(() => rmSync(folder, { recursive: true }));

let files = 0;
const newPath = () => join(folder, `store ${files++}`);
const other = 12_345;
const isRoot = process.geteuid?.() === 0;

async function refusal(path: string): Promise<unknown> {
  const store = await FileStore.open(path, 1, { timeout: 5_000 }).catch((error: unknown) => error);
  if (store instanceof FileStore) await store.close();
  return store;
}

test("a new file is for its user alone", async () => {
  const path = newPath();
  await using _ = await FileStore.open(path, 1);
  expect(statSync(path).mode & 0o777).toBe(0o600);
});

const own = process.getuid?.() ?? 0;
test.each([
  [{ uid: own, mode: 0o600 }, true],
  [{ uid: 0, mode: 0o644 }, true],
  [{ uid: own, mode: 0o664 }, true],
  [{ uid: other, mode: 0o600 }, false],
  [{ uid: own, mode: 0o646 }, false],
  [{ uid: 0, mode: 0o666 }, false],
])("a file with %j is accepted: %p", (found, taken) => {
  const act = () => requireOwnFile("/nowhere/store", { ...found, isSymbolicLink: () => false } as Stats);
  if (taken) expect(act).not.toThrow();
  else expect(act).toThrow(DistStoreError);
});

test("a file that all users can write is refused, unless that is intended", async () => {
  const path = newPath();
  writeFileSync(path, "");
  chmodSync(path, 0o666);
  expect(await refusal(path)).toMatchObject({ code: "UNTRUSTED_FILE", message: expect.stringContaining(path) });
  await using store = await FileStore.open(path, 2, { anyOwner: true });
  await using _ = await store.clone();
  const met = await rendezvous(`file://${path}?rank=0&world_size=2&any_owner=1`, { timeout: 5_000 });
  await met.close?.();
});

// Only root can give a file away.
describe.skipIf(!isRoot)("as root", () => {
  test("a file of another user is refused, and so is a link", async () => {
    const [path, link] = [newPath(), newPath()];
    writeFileSync(path, "");
    symlinkSync(path, link);
    lchownSync(link, other, other);
    expect(await refusal(link)).toMatchObject({
      code: "UNTRUSTED_FILE",
      message: expect.stringContaining("symbolic link"),
    });
    chownSync(path, other, other);
    expect(await refusal(path)).toMatchObject({ code: "UNTRUSTED_FILE", message: expect.stringContaining(`${other}`) });
  });

  test("no file is created at the target of another user's link", async () => {
    const [target, link] = [newPath(), newPath()];
    symlinkSync(target, link);
    lchownSync(link, other, other);
    expect(await refusal(link)).toMatchObject({ code: "UNTRUSTED_FILE" });
    expect(existsSync(target)).toBe(false);
  });

  test("another user can neither read nor lock the file", async () => {
    const path = newPath();
    chmodSync(folder, 0o755);
    await using store = await FileStore.open(path, 1);
    const lock = Bun.spawnSync(["setpriv", `--reuid=${other}`, "--clear-groups", "flock", "-n", path, "true"]);
    expect(lock.exitCode).not.toBe(0);
    await store.set("k", "v", { timeout: 5_000 });
  });
});
