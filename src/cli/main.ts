#!/usr/bin/env bun
import packageJson from "../../package.json" with { type: "json" };
import { DistError, explained, InvalidArgumentError } from "../errors/index.ts";
import { type Command, columns } from "./command.ts";

interface CommandEntry {
  readonly summary: string;
  load(): Promise<Command>;
}

/** Loaded on demand, so that the help is quick and a broken command does not affect the others. */
const commands: ReadonlyMap<string, CommandEntry> = new Map([
  [
    "run",
    {
      summary: "run a script as N ranks",
      load: async () => (await import("./run-command.ts")).runCommand,
    },
  ],
  [
    "top",
    {
      summary: "show the op that each rank of a running job is in",
      load: async () => (await import("./top-command.ts")).topCommand,
    },
  ],
  [
    "store",
    {
      summary: "run a TCP store server",
      load: async () => (await import("./store-command.ts")).storeCommand,
    },
  ],
  [
    "info",
    {
      summary: "show the platform and which backends are available",
      load: async () => (await import("./info-command.ts")).infoCommand,
    },
  ],
  [
    "build",
    {
      summary: "compile the shims of the installed native libraries",
      load: async () => (await import("./build-command.ts")).buildCommand,
    },
  ],
  [
    "trace",
    {
      summary: "compare the dumps of the ranks' flight recorders",
      load: async () => (await import("./trace-command.ts")).traceCommand,
    },
  ],
  [
    "env",
    {
      summary: "list the environment variables that this package reads",
      load: async () => (await import("./env-command.ts")).envCommand,
    },
  ],
]);

function usage(): string {
  const rows = [...commands].map(([name, entry]) => [name, entry.summary] as const);
  return (
    `${packageJson.name} ${packageJson.version}: torch.distributed for Bun\n\nUsage: c10d <command> [flags]\n\n` +
    `Commands:\n${columns(rows)}\nFlags:\n${columns([
      ["-h, --help", "print this text, or the help of a command"],
      ["-v, --version", "print the version"],
    ])}`
  );
}

/** Runs the command line; resolves to the exit code: 2 for wrong usage, 1 for other errors of the tool itself. */
async function main(args: readonly string[]): Promise<number> {
  const [name, ...rest] = args;
  try {
    if (name === "--version" || name === "-v") {
      console.log(packageJson.version);
      return 0;
    }
    if (name === "--help" || name === "-h") {
      console.log(usage());
      return 0;
    }
    if (name === undefined) throw new InvalidArgumentError(`no command given\n\n${usage()}`);
    const entry = commands.get(name);
    if (entry === undefined) {
      const kind = name.startsWith("-") ? "flag" : "command";
      throw new InvalidArgumentError(`unknown ${kind} "${name}"; the commands are ${[...commands.keys()].join(", ")}`);
    }
    const command = await entry.load();
    return await command.run(rest);
  } catch (thrown) {
    const error = explained("cannot continue", thrown);
    const where = name !== undefined && commands.has(name) ? `c10d ${name}` : "c10d";
    if (error instanceof InvalidArgumentError) {
      console.error(`${where}: ${error.message}\nTry "${where} --help".`);
      return 2;
    }
    console.error(error instanceof DistError ? `${where}: ${error.name}: ${error.message}` : error);
    return 1;
  }
}

process.exit(await main(process.argv.slice(2)));
