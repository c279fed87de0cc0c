import { statSync } from "node:fs";
import { resolve } from "node:path";
import { InvalidArgumentError, timeoutMs } from "../errors/index.ts";
import { defineCommand } from "./command.ts";
import { parseEnvFlags } from "./launcher/rank-environment.ts";
import { parsePort } from "./port.ts";

const scriptNames = /\.[cm]?[jt]sx?$/;

/** `c10d run`: the ranks of a job on this host. */
export const runCommand = defineCommand({
  name: "run",
  summary: "Runs a script as N ranks on this host and hosts their store. The first rank that fails ends the job.",
  program: "script.ts [args…]",
  flags: {
    "nproc-per-node": { type: "string", short: "n", value: "<N>", description: "number of ranks" },
    "master-addr": {
      type: "string",
      value: "<host>",
      default: "127.0.0.1",
      description: "address that the store listens on and the ranks connect to",
    },
    "master-port": { type: "string", value: "<port>", default: "0", description: "its port; 0 for a free one" },
    timeout: { type: "string", value: "<time>", description: "end the job after this time, for instance 30s or 2h" },
    grace: {
      type: "string",
      value: "<time>",
      default: "5s",
      description: "time that ranks have to end once they are told to, before they are killed",
    },
    env: { type: "string", multiple: true, value: "<K=V>", description: "set a variable for all ranks; repeatable" },
    "no-prefix": { type: "boolean", description: "print the lines of the ranks without [rank N]" },
    "no-bun": {
      type: "boolean",
      description: "run the program as it is, for instance python3 script.py; PyTorch's ranks need --torch-compat",
    },
    "torch-compat": {
      type: "boolean",
      description: "let PyTorch's ranks use the store: it is then open to whoever reaches its port",
    },
  },
  notes:
    "Exit code: 0 if all ranks end with 0; that of the first rank that fails, 128 + the number of the signal that ended\n" +
    "it; 128 + the signal that the launcher got; 124 after --timeout. SIGINT, SIGTERM and SIGHUP go to all ranks, a second\n" +
    "SIGINT kills them. Rank 0 reads the standard input.\n" +
    "The store wants a secret, which the ranks get as C10D_STORE_SECRET: the one in the launcher's environment, else a new\n" +
    "one. With --torch-compat, or under torchrun, there is none.",
  async run(values, program) {
    const worldSize = parseWorldSize(values["nproc-per-node"]);
    const masterAddr = values["master-addr"];
    if (masterAddr === "")
      throw new InvalidArgumentError("--master-addr must not be empty", { argument: "master-addr" });
    const options = {
      worldSize,
      command: rankCommand(program, values["no-bun"] ?? false),
      masterAddr,
      masterPort: parsePort("master-port", values["master-port"]),
      timeoutMs: parseTime("timeout", values.timeout, Number.POSITIVE_INFINITY),
      graceMs: parseTime("grace", values.grace, 5_000),
      prefix: !values["no-prefix"],
      env: parseEnvFlags(values.env ?? []),
      torchCompat: values["torch-compat"] ?? underTorchrun(),
    };
    const { launch } = await import("./launcher/launch.ts");
    return launch(options);
  },
});

function parseWorldSize(text: string | undefined): number {
  if (text === undefined)
    throw new InvalidArgumentError("-n is missing: how many ranks?", { argument: "nproc-per-node" });
  const worldSize = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!(worldSize >= 1 && Number.isSafeInteger(worldSize))) {
    throw new InvalidArgumentError(`-n must be an integer of at least 1, got ${JSON.stringify(text)}`, {
      argument: "nproc-per-node",
    });
  }
  return worldSize;
}

/** Whether torchrun has started this process: it gives each of its workers such a file. */
function underTorchrun(): boolean {
  return process.env.TORCHELASTIC_ERROR_FILE !== undefined;
}

function parseTime(flag: string, text: string | undefined, defaultMs: number): number {
  try {
    return timeoutMs(text, defaultMs);
  } catch (cause) {
    throw new InvalidArgumentError(`--${flag} wants a time such as 500ms, 30s or 5m, got ${JSON.stringify(text)}`, {
      argument: flag,
      cause,
    });
  }
}

function rankCommand(program: readonly string[], asIs: boolean): readonly string[] {
  const [name, ...args] = program;
  if (name === undefined) throw new InvalidArgumentError("no script given", { argument: "script" });
  if (asIs) {
    if (Bun.which(name) === null) throw new InvalidArgumentError(`no such program: ${name}`, { argument: "script" });
    return program;
  }
  const script = resolve(name);
  if (!scriptNames.test(name)) {
    throw new InvalidArgumentError(
      `${name} does not look like a script for Bun (.ts, .tsx, .js, .mjs …); to run another program give --no-bun`,
      { argument: "script" },
    );
  }
  if (!statSync(script, { throwIfNoEntry: false })?.isFile()) {
    throw new InvalidArgumentError(`no such script: ${script}`, { argument: "script" });
  }
  return [process.execPath, script, ...args];
}
