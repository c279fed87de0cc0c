import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { giveAway, openToAll, otherUser, testAsRoot } from "./fixtures/other-user.ts";
import { untrustedOwnerAt, writableByAnyoneAt } from "./stranger.ts";

let folder: string;
let file: string;
const at = (...names: readonly string[]): string => join(folder, ...names);

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "c10d-stranger-"));
  mkdirSync(at("a/b"), { recursive: true });
  file = at("a/b/file");
  writeFileSync(file, "");
});
afterEach(() => rmSync(folder, { recursive: true }));

const anybody = (path: string, mode = "0777"): string => `${path} can be changed by anybody (mode ${mode})`;
const another = (path: string): string => `${path} belongs to another user (uid ${otherUser})`;

describe("untrustedOwnerAt", () => {
  test("own files, in a folder such as /tmp too, and what does not exist", () => {
    for (const path of [file, at("a"), at("absent"), at("a/b/file/below"), "/", "/usr/bin"]) {
      expect(untrustedOwnerAt(path)).toBeUndefined();
    }
  });

  test("a file or folder that anybody can change", () => {
    chmodSync(file, 0o646);
    expect(untrustedOwnerAt(file)).toBe(anybody(file, "0646"));
    chmodSync(file, 0o664);
    expect(untrustedOwnerAt(file)).toBeUndefined();
    openToAll(at("a"));
    expect(untrustedOwnerAt(file)).toBe(anybody(at("a")));
  });

  test("a folder such as /tmp is safe to pass through, not to end at", () => {
    chmodSync(at("a"), 0o1777);
    expect(untrustedOwnerAt(file)).toBeUndefined();
    expect(untrustedOwnerAt(at("a"))).toBe(anybody(at("a"), "1777"));
  });

  test("symbolic links are followed, and everything on their way counts", () => {
    symlinkSync("a/b", at("link"));
    symlinkSync(at("link"), at("twice"));
    expect(untrustedOwnerAt(at("twice/file"))).toBeUndefined();
    openToAll(at("a"));
    expect(untrustedOwnerAt(at("twice/file"))).toBe(anybody(at("a")));
    symlinkSync("loop", at("loop"));
    expect(untrustedOwnerAt(at("loop"))).toBeUndefined();
  });

  test("`..` after a symbolic link leaves the target folder", () => {
    mkdirSync(at("open/inner"), { recursive: true });
    writeFileSync(at("open/file"), "");
    symlinkSync(at("open/inner"), at("a/in"));
    symlinkSync("in/../file", at("a/through"));
    const paths = [`${at("a/in")}/../file`, at("a/through")];
    expect(paths.map(untrustedOwnerAt)).toEqual([undefined, undefined]);
    openToAll(at("open"));
    expect(paths.map(untrustedOwnerAt)).toEqual([anybody(at("open")), anybody(at("open"))]);
  });

  testAsRoot("what belongs to another user", () => {
    giveAway(file);
    expect(untrustedOwnerAt(file)).toBe(another(file));
    giveAway(at("a"));
    expect(untrustedOwnerAt(file)).toBe(another(at("a")));
  });

  testAsRoot("a symbolic link that another user has put into a folder such as /tmp", () => {
    mkdirSync(at("shared"));
    chmodSync(at("shared"), 0o1777);
    symlinkSync(file, at("shared/link"));
    expect(untrustedOwnerAt(at("shared/link"))).toBeUndefined();
    giveAway(at("shared/link"));
    expect(untrustedOwnerAt(at("shared/link"))).toBe(another(at("shared/link")));
  });

  testAsRoot("the running program is trusted", () => {
    const script = at("a/b/script.ts");
    writeFileSync(
      script,
      `import { untrustedOwnerAt } from ${JSON.stringify(join(import.meta.dir, "stranger.ts"))};
      console.log(JSON.stringify(process.argv.slice(2).map((path) => untrustedOwnerAt(path) ?? null)));`,
    );
    const run = (...paths: readonly string[]) =>
      JSON.parse(Bun.spawnSync({ cmd: [process.execPath, script, ...paths], cwd: folder }).stdout.toString());
    openToAll(at("a"));
    expect(run(file, at("a"))).toEqual([null, anybody(at("a"))]);
    giveAway(at("a"), at("a/b"), file);
    expect(run(file)).toEqual([another(file)]);
    giveAway(script);
    expect(run(file)).toEqual([null]);
  });

  // Bun calls such a program [eval] or [stdin], in the current folder, where anybody may have put a file of that name.
  testAsRoot.each(["-e", "-"])("a program that is not in a file (bun %s) has no owner", (flag) => {
    const script = `
      import { untrustedOwnerAt } from ${JSON.stringify(join(import.meta.dir, "stranger.ts"))};
      console.log(untrustedOwnerAt(${JSON.stringify(file)}));`;
    for (const name of ["[eval]", "[stdin]"]) writeFileSync(at("a/b", name), "");
    giveAway(file, at("a/b/[eval]"), at("a/b/[stdin]"));
    const { stdout } = Bun.spawnSync({
      cmd: [process.execPath, flag, ...(flag === "-e" ? [script] : [])],
      cwd: at("a/b"),
      stdin: Buffer.from(script),
    });
    expect(stdout.toString()).toBe(`${another(file)}\n`);
  });
});

describe("writableByAnyoneAt", () => {
  test("the file and its folder count", () => {
    expect([writableByAnyoneAt(file), writableByAnyoneAt(at("absent"))]).toEqual([undefined, undefined]);
    chmodSync(file, 0o666);
    expect(writableByAnyoneAt(file)).toBe(anybody(file, "0666"));
    chmodSync(file, 0o644);
    openToAll(at("a/b"));
    expect(writableByAnyoneAt(file)).toBe(anybody(at("a/b")));
    chmodSync(at("a/b"), 0o1777);
    expect(writableByAnyoneAt(file)).toBeUndefined();
  });

  test("so do all folders above, and those of symbolic links on the way", () => {
    mkdirSync(at("open/inner"), { recursive: true });
    writeFileSync(at("open/inner/file"), "");
    symlinkSync(at("open/inner/file"), at("a/link"));
    symlinkSync("open", at("folder"));
    symlinkSync("../folder/inner", at("a/twice"));
    const paths = [at("open/inner/file"), at("a/link"), at("folder/inner/file"), at("a/twice/file"), at("open/inner")];
    expect(paths.map(writableByAnyoneAt)).toEqual(paths.map(() => undefined));
    chmodSync(at("open/inner/file"), 0o666);
    expect(writableByAnyoneAt(at("a/link"))).toBe(anybody(at("open/inner/file"), "0666"));
    chmodSync(at("open/inner/file"), 0o644);
    for (const folder of [at("open/inner"), at("open")]) {
      openToAll(folder);
      expect(paths.slice(0, 4).map(writableByAnyoneAt)).toEqual(paths.slice(0, 4).map(() => anybody(folder)));
      chmodSync(folder, 0o755);
    }
    openToAll(at("a"));
    expect(writableByAnyoneAt(at("a/link"))).toBe(anybody(at("a")));
    chmodSync(at("a"), 0o1777);
    expect(writableByAnyoneAt(at("a/link"))).toBeUndefined();
  });

  testAsRoot("a symbolic link that another user has put into a folder such as /tmp", () => {
    symlinkSync(file, at("link"));
    chmodSync(folder, 0o1777);
    expect(writableByAnyoneAt(at("link"))).toBeUndefined();
    giveAway(at("link"));
    expect(writableByAnyoneAt(at("link"))).toBe(anybody(folder, "1777"));
  });

  testAsRoot("another user's file is accepted, unless any user could have put it there", () => {
    giveAway(file, at("a"));
    expect(writableByAnyoneAt(file)).toBeUndefined();
    chmodSync(at("a/b"), 0o1777);
    expect(writableByAnyoneAt(file)).toBe(anybody(at("a/b"), "1777"));
  });
});
