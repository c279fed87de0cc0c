import { type ParseArgsOptionDescriptor, parseArgs } from "node:util";
import { InvalidArgumentError, messageOf } from "../errors/index.ts";
import { didYouMean } from "../errors/nearest-name.ts";

export interface Flag extends ParseArgsOptionDescriptor {
  readonly description: string;
  /** Placeholder of the value in the usage text. */
  readonly value?: string;
  /** Its value if it is given without one, which otherwise follows after `=`. */
  readonly implied?: string;
}

export type Flags = Readonly<Record<string, Flag>>;

interface ParseOptions<F extends Flags> {
  args: string[];
  options: F;
  strict: true;
  allowPositionals: true;
}

type FlagValues<F extends Flags> = ReturnType<typeof parseArgs<ParseOptions<F>>>["values"];

export interface Command {
  readonly name: string;
  /** Parses the arguments, does the work (or prints the usage for `--help`) and resolves to the exit code. */
  run(args: readonly string[]): Promise<number>;
}

export interface CommandDefinition<F extends Flags> {
  readonly name: string;
  readonly summary: string;
  readonly flags: F;
  /** Usage text for the program that the command runs and its arguments. Without it there are no positionals. */
  readonly program?: string;
  /** Usage text for the operands of a command that runs no program; flags may stand before and after them. */
  readonly operands?: string;
  /** Paragraph below the flags. */
  readonly notes?: string;
  /** @param program The program and its arguments, or the operands. */
  run(values: FlagValues<F>, program: readonly string[]): Promise<number>;
}

/** A sub-command from its table of flags. Flags end at the first positional; the rest belongs to that program. */
export function defineCommand<const F extends Flags>(definition: CommandDefinition<F>): Command {
  return {
    name: definition.name,
    // Async, so that bad arguments also reject.
    async run(args) {
      const hasOperands = definition.operands !== undefined;
      const [own, program] = hasOperands ? [args, []] : splitAtProgram(definition.flags, args);
      if (own.includes("--help") || own.includes("-h")) {
        console.log(usage(definition));
        return 0;
      }
      if (definition.program === undefined && program.length > 0) {
        throw new InvalidArgumentError(`unexpected argument ${JSON.stringify(program[0])}`, { argument: program[0] });
      }
      const { values, positionals } = parseFlags(definition.flags, withImplied(definition.flags, own));
      return definition.run(values, hasOperands ? positionals : program);
    },
  };
}

function parseFlags<F extends Flags>(flags: F, args: readonly string[]): ReturnType<typeof parseArgs<ParseOptions<F>>> {
  try {
    return parseArgs<ParseOptions<F>>({
      args: [...args],
      options: flags,
      strict: true,
      allowPositionals: true,
    });
  } catch (error) {
    const message = messageOf(error);
    const unknown = /^Unknown option '(--[^']+)'/.exec(message)?.[1];
    const advice =
      unknown === undefined
        ? ""
        : didYouMean(
            unknown,
            Object.keys(flags).map((name) => `--${name}`),
          );
    // The runtime appends advice on "--" that is wrong for a command whose flags end at the first positional.
    const reason = message.replace(/\. To specify a positional argument[\s\S]*$/, "");
    throw new InvalidArgumentError(`${reason}${advice}`, { cause: error });
  }
}

function splitAtProgram(flags: Flags, args: readonly string[]): [own: readonly string[], program: readonly string[]] {
  // What follows such a flag is not its value.
  const options = Object.fromEntries(
    Object.entries(flags).map(([name, flag]) => [
      name,
      flag.implied === undefined ? flag : { type: "boolean" as const },
    ]),
  );
  const { tokens } = parseArgs({
    args: [...args],
    options,
    strict: false,
    tokens: true,
    allowPositionals: true,
  });
  const end = tokens.find((token) => token.kind !== "option");
  if (end === undefined) return [args, []];
  return [args.slice(0, end.index), args.slice(end.kind === "positional" ? end.index : end.index + 1)];
}

function withImplied(flags: Flags, args: readonly string[]): string[] {
  return args.map((arg) => {
    const implied = arg.startsWith("--") ? flags[arg.slice(2)]?.implied : undefined;
    return implied === undefined ? arg : `${arg}=${implied}`;
  });
}

function valueText({ value, implied }: Flag): string {
  if (value === undefined) return "";
  return implied === undefined ? ` ${value}` : `[=${value}]`;
}

function usage(definition: CommandDefinition<Flags>): string {
  const rows: [string, string][] = Object.entries(definition.flags).map(([name, flag]) => [
    `${flag.short === undefined ? "    " : `-${flag.short}, `}--${name}${valueText(flag)}`,
    flag.default === undefined ? flag.description : `${flag.description} (default: ${flag.default})`,
  ]);
  rows.push(["-h, --help", "print this text"]);
  const named = definition.program ?? definition.operands;
  const program = named === undefined ? "" : ` ${named}`;
  const notes = definition.notes === undefined ? "" : `\n${definition.notes}\n`;
  return `${definition.summary}\n\nUsage: c10d ${definition.name} [flags]${program}\n\nFlags:\n${columns(rows)}${notes}`;
}

/** Rows as two aligned columns, one line each. */
export function columns(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([left]) => left.length));
  return rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}\n`).join("");
}
