import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DistNetworkError } from "../errors/index.ts";
import { WorkerServer } from "./index.ts";

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "c10d-control-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

describe("a Unix socket", () => {
  const ping = (path: string) => fetch("http://localhost/handler/ping", { method: "POST", unix: path });

  test("is for this user alone, needs no token, and is removed with its server", async () => {
    const path = join(folder, "own.sock");
    const server = new WorkerServer(path);
    expect([server.port, server.token, server.url]).toEqual([-1, undefined, `unix:${path}`]);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(await (await ping(path)).text()).toBe("pong");
    expect(readdirSync(folder).filter((name) => name.startsWith(".c10d"))).toEqual([]);
    server.shutdown();
    expect(existsSync(path)).toBe(false);
  });

  test("nothing is replaced but a socket of this user on which nobody listens", async () => {
    const path = join(folder, "taken");
    const refused = (why: string) => expect(() => new WorkerServer(path)).toThrow(`${path} already exists: ${why}`);
    writeFileSync(path, "mine");
    refused("it is not a socket");
    expect(readFileSync(path, "utf8")).toBe("mine");
    rmSync(path);
    mkdirSync(path);
    refused("it is not a socket");
    rmdirSync(path);
    using first = new WorkerServer(path);
    refused("another server listens on it");
    expect(await (await ping(path)).text()).toBe("pong");
    const link = join(folder, "link");
    symlinkSync(path, link);
    expect(() => new WorkerServer(link)).toThrow(`${link} already exists: it is not a socket`);
    first.shutdown();
    expect(() => new WorkerServer(link)).toThrow(DistNetworkError);
    expect(readdirSync(folder).filter((name) => name.startsWith(".c10d"))).toEqual([]);
  });

  /** Starts a server in a process of its own, which then does what `end` says. */
  async function left(path: string, end: string): Promise<Bun.Subprocess> {
    const script = `
      import { WorkerServer } from ${JSON.stringify(join(import.meta.dir, "index.ts"))};
      new WorkerServer(${JSON.stringify(path)});
      console.log("listens");
      ${end}`;
    const child = Bun.spawn([process.execPath, "-e", script], { stdout: "pipe", stderr: "ignore", timeout: 20_000 });
    for await (const _ of child.stdout) break;
    return child;
  }

  test.each([
    ["its code ends", ""],
    ["process.exit()", "process.exit(3);"],
    ["an exception", "setTimeout(() => { throw new Error('no') }, 5);"],
    ["an exception in another folder", "process.chdir('/'); throw new Error('no');"],
  ])("is removed when its process ends without shutdown(): %s", async (_, end) => {
    const path = join(folder, "exit.sock");
    await (await left(path, end)).exited;
    expect(existsSync(path)).toBe(false);
  });

  test("of a process that was killed is replaced, not while it is only stopped", async () => {
    const path = join(folder, "stale.sock");
    const child = await left(path, "setInterval(() => {}, 1000);");
    child.kill("SIGSTOP");
    expect(() => new WorkerServer(path)).toThrow(`${path} already exists: another server listens on it`);
    child.kill("SIGKILL");
    await child.exited;
    expect(lstatSync(path).isSocket()).toBe(true);
    using _server = new WorkerServer(path);
    expect(await (await ping(path)).text()).toBe("pong");
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  test("of which several processes want to replace a stale one is had by one of them", async () => {
    const path = join(folder, "raced.sock");
    const dead = await left(path, "setInterval(() => {}, 1000);");
    dead.kill("SIGKILL");
    await dead.exited;
    const script = `
      import { WorkerServer } from ${JSON.stringify(join(import.meta.dir, "index.ts"))};
      try {
        using server = new WorkerServer(${JSON.stringify(path)});
        console.log("listens");
        for await (const _ of console) break;
        const answer = await fetch("http://localhost/handler/ping", { method: "POST", unix: ${JSON.stringify(path)} });
        console.log(await answer.text());
      } catch ({ code }) { console.log(code); }`;
    const run = () => Bun.spawn([process.execPath, "-e", script], { stdin: "pipe", stdout: "pipe", timeout: 20_000 });
    const children = Array.from({ length: 4 }, run);
    const running = () => children.filter(({ exitCode, signalCode }) => exitCode === null && signalCode === null);
    while (running().length > 1) await Bun.sleep(5);
    for (const { stdin } of running()) {
      stdin.write("\n");
      stdin.end();
    }
    const said = await Promise.all(children.map(({ stdout }) => stdout.text()));
    expect(said.sort()).toEqual([...Array(3).fill("ADDRESS_EXISTS\n"), "listens\npong\n"]);
    expect(readdirSync(folder).filter((name) => name.startsWith(".c10d"))).toEqual([]);
  });

  // Only root can give a file away.
  test.skipIf(process.getuid?.() !== 0)("of another user is not replaced", async () => {
    const path = join(folder, "others.sock");
    const dead = await left(path, "setInterval(() => {}, 1000);");
    dead.kill("SIGKILL");
    await dead.exited;
    chownSync(path, 65_534, 65_534);
    expect(() => new WorkerServer(path)).toThrow(
      `${path} already exists: it is a socket of the user with the id 65534`,
    );
    rmSync(path);
  });

  test("a file that has taken its place meanwhile is not removed", () => {
    const path = join(folder, "moved.sock");
    const server = new WorkerServer(path);
    rmSync(path);
    writeFileSync(path, "another's");
    server.shutdown();
    expect(existsSync(path)).toBe(true);
  });

  test("works with a path of the greatest length, and not with a longer one", async () => {
    const deep = mkdtempSync(join(folder, "d".repeat(Math.max(1, 90 - folder.length))));
    const path = join(deep, "s".repeat(106 - deep.length));
    expect(Buffer.byteLength(path)).toBe(107);
    using _server = new WorkerServer(path);
    expect(await (await ping(path)).text()).toBe("pong");
    expect(() => new WorkerServer(`${path}x`)).toThrow(`Error binding to ${path}x: the path of a Unix socket has`);
  });

  test("reports why it cannot be made, and leaves nothing", () => {
    const closed = mkdtempSync(join(folder, "closed-"));
    const gone = join(folder, "gone", "x.sock");
    expect(() => new WorkerServer(gone)).toThrow(`Error binding to ${gone}: ENOENT`);
    if (process.getuid?.() !== 0) {
      chmodSync(closed, 0o500);
      expect(() => new WorkerServer(join(closed, "x.sock"))).toThrow("EACCES");
      chmodSync(closed, 0o700);
    }
    expect(readdirSync(closed)).toEqual([]);
  });
});
