import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { isAlive } from "../../src/cli/fixtures/cli-process.ts";
import { messageOf } from "../../src/errors/index.ts";

const namePattern = /^c10d-(\d+)-\d+-[ab]$/;
/** Number of pairs of hosts that this process has created. */
let made = 0;

/**
 * Two hosts of one network on this machine: network namespaces connected only by a veth pair. They share files and
 * process ids with the machine.
 */
export class TwoHosts implements AsyncDisposable {
  static readonly addresses = ["10.77.0.1", "10.77.0.2"] as const;
  readonly names: readonly [string, string];

  /** Why this machine cannot have namespaces; undefined if it can. */
  static async impossible(): Promise<string | undefined> {
    if (process.platform !== "linux") return "network namespaces need Linux";
    if (Bun.which("ip") === null) return "there is no program ip (package iproute2)";
    try {
      await using _probe = await TwoHosts.make();
      return undefined;
    } catch (error) {
      return messageOf(error);
    }
  }

  static async make(): Promise<TwoHosts> {
    await sweep();
    const hosts = new TwoHosts(`c10d-${process.pid}-${made++}`);
    try {
      await hosts.#build();
      return hosts;
    } catch (error) {
      await hosts[Symbol.asyncDispose]();
      throw error;
    }
  }

  private constructor(base: string) {
    this.names = [`${base}-a`, `${base}-b`];
  }

  /** Command prefix that runs a program on a host. */
  on(host: 0 | 1): readonly string[] {
    return ["ip", "netns", "exec", this.names[host]];
  }

  /** A program that runs a command on a host, like rsh and ssh: `agent ADDRESS COMMAND…`; for MPI launchers. */
  writeAgent(folder: string): string {
    const path = join(folder, "agent");
    const cases = this.names.map((name, host) => `  ${TwoHosts.addresses[host]}) name=${name} ;;`);
    // Its own host name, since launchers distinguish hosts by name.
    const enter = 'exec ip netns exec "$name" unshare --uts sh -c \'hostname "$0"; exec sh -c "$*"\' "$name" "$@"';
    writeFileSync(path, ["#!/bin/sh", 'case "$1" in', ...cases, "esac", "shift", enter, ""].join("\n"), {
      mode: 0o755,
    });
    return path;
  }

  /** Takes the network interface of a host down. */
  async cut(host: 0 | 1): Promise<void> {
    await ip("-n", this.names[host], "link", "set", "veth", "down");
  }

  async restore(host: 0 | 1): Promise<void> {
    await ip("-n", this.names[host], "link", "set", "veth", "up");
  }

  /** Drops every frame between the hosts, while their interfaces stay up. */
  async silence(): Promise<void> {
    await this.#sendTo("02:00:00:00:00:00");
  }

  async reconnect(): Promise<void> {
    await this.#sendTo(undefined);
  }

  /** Makes each host send frames for the other to this hardware address, or to the one that it resolves. */
  async #sendTo(hardware: string | undefined): Promise<void> {
    for (const host of [0, 1] as const) {
      const other = ["to", TwoHosts.addresses[host === 0 ? 1 : 0], "dev", "veth"];
      const what =
        hardware === undefined ? ["del", ...other] : ["replace", ...other, "lladdr", hardware, "nud", "permanent"];
      await ip("-n", this.names[host], "neigh", ...what);
    }
  }

  /** Removes the hosts; no program may run there any more. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const name of this.names) await ip("netns", "del", name).catch(() => {});
  }

  async #build(): Promise<void> {
    const [a, b] = this.names;
    for (const name of this.names) {
      await ip("netns", "add", name);
      await ip("-n", name, "link", "set", "lo", "up");
    }
    await ip("-n", a, "link", "add", "veth", "type", "veth", "peer", "name", "veth", "netns", b);
    for (const host of [0, 1] as const) {
      await ip("-n", this.names[host], "addr", "add", `${TwoHosts.addresses[host]}/24`, "dev", "veth");
      await this.restore(host);
    }
    for (const host of [0, 1] as const) await this.#carrier(host);
  }

  /** Returns when the interface of a host works, which the kernel sets up some time after the other's. */
  async #carrier(host: 0 | 1): Promise<void> {
    for (const end = performance.now() + 5_000; performance.now() < end; await Bun.sleep(20)) {
      const link = await ip("-n", this.names[host], "-o", "link", "show", "dev", "veth");
      if (link.includes("LOWER_UP") && link.includes("state UP")) return;
    }
    throw new Error(`the interface of ${this.names[host]} did not come up in 5 s`);
  }
}

/** Removes what killed runs left behind. */
async function sweep(): Promise<void> {
  for (const line of (await ip("netns", "list")).split("\n")) {
    const name = line.split(" ")[0] ?? "";
    const pid = Number(namePattern.exec(name)?.[1] ?? 0);
    if (pid > 0 && pid !== process.pid && !isAlive(pid)) await ip("netns", "del", name).catch(() => {});
  }
}

async function ip(...args: readonly string[]): Promise<string> {
  const run = Bun.spawn({ cmd: ["ip", ...args], stdout: "pipe", stderr: "pipe", timeout: 5_000 });
  const [code, stdout, stderr] = await Promise.all([run.exited, run.stdout.text(), run.stderr.text()]);
  if (code !== 0) throw new Error(`ip ${args.join(" ")}: ${stderr.trim() || `exit code ${code}`}`);
  return stdout;
}
