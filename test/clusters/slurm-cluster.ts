import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type CommandEnd, Hosts } from "./hosts.ts";

const LIMIT_MS = 30_000;
const nodes = ["n1", "n2"] as const;
const cpus = 8;

/** A cluster of Slurm daemons: a host `head` for the commands, and two nodes with eight simulated processors each. */
export class SlurmCluster implements AsyncDisposable {
  readonly hosts: Hosts;
  #jobs = 0;

  /** Why this machine cannot run one; undefined if it can. */
  static impossible(): Promise<string | undefined> {
    return Hosts.impossible(["munged", "slurmctld", "slurmd", "srun", "sbatch", "sinfo"]);
  }

  static async make(): Promise<SlurmCluster> {
    const cluster = new SlurmCluster(await Hosts.make(["head", ...nodes]));
    try {
      await cluster.#start();
      return cluster;
    } catch (error) {
      await cluster[Symbol.asyncDispose]();
      throw error;
    }
  }

  private constructor(hosts: Hosts) {
    this.hosts = hosts;
  }

  /** Runs a command on the login host. */
  run(command: readonly string[], env: Readonly<Record<string, string>> = {}, limitMs = 40_000): Promise<CommandEnd> {
    const { folder } = this.hosts;
    const own = { SLURM_CONF: this.#path("slurm.conf"), SLURM_PMIX_TMPDIR: join(folder, "tmp"), ...env };
    return this.hosts.run("head", command, own, limitMs);
  }

  /** Runs the commands of a batch script; both of its streams are in `stdout`. */
  async batch(flags: string, commands: string, env: Readonly<Record<string, string>> = {}): Promise<CommandEnd> {
    const job = this.#path(`job-${this.#jobs++}`);
    writeFileSync(`${job}.body`, `cd '${process.cwd()}'\n${commands}\n`);
    writeFileSync(`${job}.sh`, `#!/bin/sh\nsh '${job}.body'\necho $? >'${job}.new'\nmv '${job}.new' '${job}.exit'\n`);
    const submitted = await this.run(["sbatch", ...flags.split(" "), "-o", `${job}.out`, `${job}.sh`], env);
    if (submitted.exitCode !== 0) return submitted;
    await this.#until("the end of a job", () => Promise.resolve(existsSync(`${job}.exit`)));
    return {
      exitCode: Number(readFileSync(`${job}.exit`, "utf8")),
      stdout: readFileSync(`${job}.out`, "utf8"),
      stderr: "",
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.hosts[Symbol.asyncDispose]();
  }

  #path(name: string): string {
    return join(this.hosts.folder, name);
  }

  async #start(): Promise<void> {
    const { folder } = this.hosts;
    for (const name of ["state", ...nodes.map((node) => `spool-${node}`)]) mkdirSync(this.#path(name));
    writeFileSync(this.#path("slurm.conf"), configuration(folder));
    for (const name of ["plugstack.conf", "cgroup.conf"]) writeFileSync(this.#path(name), "");
    writeFileSync(this.#path("key"), crypto.getRandomValues(new Uint8Array(128)), { mode: 0o400 });
    const files = ["key-file=key", "socket=munge", "pid-file=munged.pid", "log-file=munged.log", "seed-file=seed"];
    const options = files.map((each) => `--${each.replace("=", `=${folder}/`)}`);
    this.#daemon("head", "munged", ["munged", "--foreground", "--force", ...options]);
    await this.#until("munged", async () => (await this.run(["test", "-S", this.#path("munge")])).exitCode === 0);
    this.#daemon("head", "slurmctld", ["slurmctld", "-D"]);
    for (const node of nodes) this.#daemon(node, `slurmd-${node}`, ["slurmd", "-D", "-N", node]);
    const all = `${nodes.length} idle`;
    await this.#until("slurmctld", async () => (await this.run(["sinfo", "-h", "-o", "%D %T"])).stdout.trim() === all);
  }

  #daemon(host: string, name: string, command: readonly string[]): void {
    const log = Bun.file(this.#path(`${name}.out`));
    Bun.spawn({
      cmd: [...this.hosts.on(host), ...command],
      env: { ...this.hosts.environment, SLURM_CONF: this.#path("slurm.conf") },
      stdin: "ignore",
      stdout: log,
      stderr: log,
    }).unref();
  }

  async #until(what: string, holds: () => Promise<boolean>): Promise<void> {
    for (const end = performance.now() + LIMIT_MS; performance.now() < end; await Bun.sleep(50)) {
      if (await holds()) return;
    }
    const said = ["munged", "slurmctld", ...nodes.map((node) => `slurmd-${node}`)].map((name) => {
      try {
        return readFileSync(this.#path(`${name}.out`), "utf8");
      } catch {
        return `${name} was not started`;
      }
    });
    throw new Error(`waited ${LIMIT_MS} ms for ${what}:\n${said.join("\n")}`);
  }
}

function configuration(folder: string): string {
  return `ClusterName=c10d
SlurmctldHost=head(10.78.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=${folder}/munge
CredType=cred/munge
StateSaveLocation=${folder}/state
SlurmdSpoolDir=${folder}/spool-%n
SlurmctldPidFile=${folder}/slurmctld.pid
SlurmdPidFile=${folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
${nodes.map((node, i) => `NodeName=${node} NodeAddr=10.78.0.${i + 2} CPUs=${cpus} State=UNKNOWN`).join("\n")}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
`;
}
