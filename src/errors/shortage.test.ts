import { describe, expect, test } from "bun:test";
import { constants } from "node:os";
import { DistError, DistNetworkError } from "./dist-error.ts";
import { descriptorShortage, explained, loaded, shortageOf, shortageOfStart, withShortage } from "./shortage.ts";

const systemError = (code: string, message = `${code}: no luck`): Error => Object.assign(new Error(message), { code });
const report = process.report.getReport() as { userLimits: { open_files: { soft: number } } };
const { soft } = report.userLimits.open_files;

describe("shortageOf", () => {
  const cases: readonly (readonly [unknown, string])[] = [
    [systemError("EMFILE"), "OUT_OF_DESCRIPTORS"],
    [systemError("ENFILE"), "OUT_OF_DESCRIPTORS"],
    [systemError("ENOMEM"), "OUT_OF_MEMORY"],
    [Object.assign(systemError("EMFILE", "spawnSync failed"), { syscall: "epoll_create1" }), "OUT_OF_DESCRIPTORS"],
    [Object.assign(new Error("no luck"), { errno: -constants.errno.ENFILE }), "OUT_OF_DESCRIPTORS"],
    [Object.assign(systemError("EAGAIN"), { syscall: "posix_spawn" }), "OUT_OF_PROCESSES"],
    [systemError("ERR_DLOPEN_FAILED", "libx.so: cannot map it: Cannot allocate memory"), "OUT_OF_MEMORY"],
    ["spawn EAGAIN: no luck", "OUT_OF_PROCESSES"],
    ["cannot start a thread: Resource temporarily unavailable", "OUT_OF_PROCESSES"],
    ["accept: Too many open files", "OUT_OF_DESCRIPTORS"],
    ["socket: Too many open files in system", "OUT_OF_DESCRIPTORS"],
    ["mmap: Cannot allocate memory", "OUT_OF_MEMORY"],
    [new SyntaxError('EMFILE reading "/x.ts"'), "OUT_OF_DESCRIPTORS"],
    [new Error("ProcessFdQuotaExceeded"), "OUT_OF_DESCRIPTORS"],
    ["too few file descriptors: UCX needs 32", "OUT_OF_DESCRIPTORS"],
  ];
  test.each(cases.map(([error, code]) => [String(error), code, error] as const))("%s: %s", (_, code, error) => {
    expect(shortageOf(error)?.code).toBe(code as "OUT_OF_MEMORY");
  });

  test("other errors are not a shortage", () => {
    const others = [
      systemError("ECONNREFUSED"),
      systemError("EAGAIN"),
      Object.assign(systemError("EAGAIN", "spawn EAGAIN"), { syscall: "read" }),
      systemError("ENOENT", "no such file: /jobs/EMFILE: Too many open files/a thread: EAGAIN"),
      "Resource temporarily unavailable",
      undefined,
      5,
      Symbol("a symbol"),
      Object.create(null),
    ];
    expect(others.map((error) => shortageOf(error))).toEqual(others.map(() => undefined));
  });

  test("EAGAIN of a process that does not start is a shortage of processes", () => {
    expect(shortageOfStart(systemError("EAGAIN"))?.code).toBe("OUT_OF_PROCESSES");
    expect(shortageOfStart(systemError("EMFILE"))?.code).toBe("OUT_OF_DESCRIPTORS");
    expect(shortageOfStart(systemError("ENOENT"))).toBeUndefined();
  });

  test("the text has the limit, what is needed, and what to do", () => {
    const { text = "" } = shortageOf(systemError("EMFILE"), soft + 5_000) ?? {};
    expect(text).toStartWith(
      `this process has no file descriptor left: \`ulimit -n\` is ${soft}, and about ${soft + 5_000} are needed. Raise it before the start: \`ulimit -n ${2 * (soft + 5_000)}\``,
    );
    expect(shortageOf(systemError("ENFILE"))?.text).toContain(
      "this machine has no file descriptor left: raise its sysctl fs.file-max",
    );
    expect(shortageOf(systemError("ENOMEM"))?.text).toMatch(
      /no memory left for this process: `ulimit -v` is (unlimited|\d+)/,
    );
  });

  test("is mentioned once", () => {
    const shortage = shortageOf("accept: Too many open files");
    if (shortage === undefined) throw new Error("there is one");
    const once = withShortage("rank 1: accept: Too many open files", shortage);
    expect(once).toStartWith("rank 1: accept: Too many open files: this process has no file descriptor left");
    expect(withShortage(once, shortage)).toBe(once);
    const few = "too few file descriptors: UCX needs 32, and this process can open 5 more";
    expect(withShortage(few, shortage)).toBe(few);
  });
});

test("a process with free descriptors has no shortage, unless it needs more at once", () => {
  expect(descriptorShortage()).toBeUndefined();
  const program = `
    const { descriptorShortage } = await import(${JSON.stringify(new URL("./shortage.ts", import.meta.url).pathname)});
    console.log(descriptorShortage()?.code, descriptorShortage(77, 100)?.text);
    console.log(descriptorShortage(7, 100)?.text);`;
  const { stdout } = Bun.spawnSync(["prlimit", "--nofile=40:40", process.execPath, "-e", program]);
  expect(stdout.toString()).toStartWith(
    "undefined this process has no file descriptor left: `ulimit -n` is 40, and about 77 are needed. " +
      "Raise it before the start: `ulimit -n 4096` (above 40 that needs root",
  );
  expect(stdout.toString()).toContain("\nthis process has no file descriptor left: `ulimit -n` is 40. Raise it");
});

test("unrelated errors are unchanged", async () => {
  const plain = new TypeError("no function");
  const ours = new DistNetworkError("EMFILE");
  expect([explained("it", plain), explained("it", ours)]).toEqual([plain, ours]);
  const said = explained("it stopped", systemError("EMFILE"));
  expect(said).toBeInstanceOf(DistError);
  expect(said).toMatchObject({
    code: "OUT_OF_DESCRIPTORS",
    message: expect.stringMatching(/^it stopped: this process has/),
  });
  expect(await loaded(Promise.resolve(1))).toBe(1);
  expect(await loaded(Promise.reject(plain)).catch((error: unknown) => error)).toBe(plain);
});
