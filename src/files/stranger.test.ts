import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { giveAway, openToAll, otherUser, testAsRoot } from "./fixtures/other-user.ts";
import { anybodyAt, strangerAt } from "./stranger.ts";

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

describe("strangerAt", () => {
  test("own files, in a folder such as /tmp too, and what does not exist", () => {
    for (const path of [file, at("a"), at("absent"), at("a/b/file/below"), "/", "/usr/bin"]) {
      expect(strangerAt(path)).toBeUndefined();
    }
  });

  test("a file or folder that anybody can change", () => {
    chmodSync(file, 0o646);
    expect(strangerAt(file)).toBe(anybody(file, "0646"));
    chmodSync(file, 0o664);
    expect(strangerAt(file)).toBeUndefined();
    openToAll(at("a"));
    expect(strangerAt(file)).toBe(anybody(at("a")));
  });

  test("a folder such as /tmp is safe to pass through, not to end at", () => {
    chmodSync(at("a"), 0o1777);
    expect(strangerAt(file)).toBeUndefined();
    expect(strangerAt(at("a"))).toBe(anybody(at("a"), "1777"));
  });

  test("symbolic links are followed, and everything on their way counts", () => {
    symlinkSync("a/b", at("link"));
    symlinkSync(at("link"), at("twice"));
    expect(strangerAt(at("twice/file"))).toBeUndefined();
    openToAll(at("a"));
    expect(strangerAt(at("twice/file"))).toBe(anybody(at("a")));
    symlinkSync("loop", at("loop"));
    expect(strangerAt(at("loop"))).toBeUndefined();
  });

  test("`..` after a symbolic link leaves the target folder", () => {
    mkdirSync(at("open/inner"), { recursive: true });
    writeFileSync(at("open/file"), "");
    symlinkSync(at("open/inner"), at("a/in"));
    symlinkSync("in/../file", at("a/through"));
    const paths = [`${at("a/in")}/../file`, at("a/through")];
    expect(paths.map(strangerAt)).toEqual([undefined, undefined]);
    openToAll(at("open"));
    expect(paths.map(strangerAt)).toEqual([anybody(at("open")), anybody(at("open"))]);
  });

  testAsRoot("what belongs to another user", () => {
    giveAway(file);
    expect(strangerAt(file)).toBe(another(file));
    giveAway(at("a"));
    expect(strangerAt(file)).toBe(another(at("a")));
  });

  testAsRoot("a symbolic link that another user has put into a folder such as /tmp", () => {
    mkdirSync(at("shared"));
    chmodSync(at("shared"), 0o1777);
    symlinkSync(file, at("shared/link"));
    expect(strangerAt(at("shared/link"))).toBeUndefined();
    giveAway(at("shared/link"));
    expect(strangerAt(at("shared/link"))).toBe(another(at("shared/link")));
  });

  testAsRoot("the running program is trusted", () => {
    const script = at("a/b/script.ts");
    writeFileSync(
      script,
      `import { strangerAt } from ${JSON.stringify(join(import.meta.dir, "stranger.ts"))};
      console.log(JSON.stringify(process.argv.slice(2).map((path) => strangerAt(path) ?? null)));`,
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
      import { strangerAt } from ${JSON.stringify(join(import.meta.dir, "stranger.ts"))};
      console.log(strangerAt(${JSON.stringify(file)}));`;
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

describe("anybodyAt", () => {
  test("the file and its folder count", () => {
    expect([anybodyAt(file), anybodyAt(at("absent"))]).toEqual([undefined, undefined]);
    chmodSync(file, 0o666);
    expect(anybodyAt(file)).toBe(anybody(file, "0666"));
    chmodSync(file, 0o644);
    openToAll(at("a/b"));
    expect(anybodyAt(file)).toBe(anybody(at("a/b")));
    chmodSync(at("a/b"), 0o1777);
    expect(anybodyAt(file)).toBeUndefined();
  });

  testAsRoot("another user's file is accepted, unless any user could have put it there", () => {
    giveAway(file, at("a"));
    expect(anybodyAt(file)).toBeUndefined();
    chmodSync(at("a/b"), 0o1777);
    expect(anybodyAt(file)).toBe(anybody(at("a/b"), "1777"));
  });
});
