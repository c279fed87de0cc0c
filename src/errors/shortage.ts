import { closeSync, openSync } from "node:fs";
import { constants } from "node:os";
import { DistError } from "./dist-error.ts";
import { messageOf } from "./user-code.ts";

/** What this process or the machine has run out of. */
export interface Shortage {
  readonly code: "OUT_OF_DESCRIPTORS" | "OUT_OF_MEMORY" | "OUT_OF_PROCESSES";
  /** What has run out, its limit, and what to do. */
  readonly text: string;
}

/** About how many descriptors or processes are needed, where that is known. */
type Need = number | undefined;

// For dlopen(), unreadable modules, Workers and listen(), Bun reports a message without a code.
const byText: readonly (readonly [RegExp, (needed: Need) => Shortage])[] = [
  [/\bENFILE\b|SystemFdQuotaExceeded|Too many open files in system/, ofMachine],
  [
    /\bEMFILE\b|ProcessFdQuotaExceeded|Too many open files|no file descriptor left|too few file descriptors/i,
    ofProcess,
  ],
  [/\bENOMEM\b|Cannot allocate memory/, ofMemory],
  // EAGAIN means this when a process or thread does not start, not for sockets.
  [
    /\bEAGAIN\b.*\b(spawn|fork|clone)|\b(spawn|fork|thread)\b.*(\bEAGAIN\b|Resource temporarily unavailable)/,
    ofProcesses,
  ],
];
/** System calls that start a process or a thread. */
const starts = /spawn|fork|clone/;

const { EAGAIN, EMFILE, ENFILE, ENOMEM } = constants.errno;
const byErrno = new Map([
  [ENFILE, ofMachine],
  [EMFILE, ofProcess],
  [ENOMEM, ofMemory],
  [EAGAIN, ofProcesses],
]);

/** The shortage that a system error reports, if any: recognised by its code, or by its message if it has none. */
export function shortageOf(error: unknown, needed?: number): Shortage | undefined {
  const errno = errnoOf(error);
  if (errno === undefined) {
    const text = messageOf(error);
    return byText.find(([pattern]) => pattern.test(text))?.[1](needed);
  }
  if (errno !== EAGAIN) return shortageOfErrno(errno, needed);
  const { syscall } = error as { readonly syscall?: unknown };
  // A socket reports EAGAIN when there is nothing to read.
  return typeof syscall === "string" && starts.test(syscall) ? ofProcesses() : undefined;
}

/** {@link shortageOf} for an error that starting a process threw. */
export function shortageOfStart(error: unknown, needed?: number): Shortage | undefined {
  return errnoOf(error) === EAGAIN ? ofProcesses() : shortageOf(error, needed);
}

/** The errno of a system error; undefined for other errors. */
function errnoOf(error: unknown): number | undefined {
  if (!(error instanceof Error)) return undefined;
  const { code, errno } = error as { readonly code?: unknown; readonly errno?: unknown };
  const named = typeof code === "string" ? (constants.errno as Readonly<Record<string, number>>)[code] : undefined;
  if (named !== undefined) return named;
  // Bun's are negative.
  return typeof errno === "number" && errno !== 0 ? Math.abs(errno) : undefined;
}

/** {@link shortageOf} by errno, for native code. EAGAIN is that of a thread or process that does not start. */
export function shortageOfErrno(errno: number, needed?: number): Shortage | undefined {
  return byErrno.get(errno)?.(needed);
}

/**
 * The shortage if fewer than `atOnce` descriptors are free now. Bun reports the lack of one in several ways, such as a
 * refused connection, or ends the process.
 */
export function descriptorShortage(needed?: number, atOnce = 1): Shortage | undefined {
  const opened: number[] = [];
  try {
    while (opened.length < atOnce) opened.push(openSync("/dev/null", "r"));
    return undefined;
  } catch (error) {
    return shortageOf(error, needed);
  } finally {
    for (const fd of opened) closeSync(fd);
  }
}

/** Adds what has run out to a message, unless it says so already. */
export function withShortage(message: string, { text }: Shortage): string {
  return /no file descriptor left|too few file descriptors/.test(message) ? message : `${message}: ${text}`;
}

/** The error itself or, if something has run out, an error that says what. */
export function explained(what: string, error: unknown): unknown {
  if (error instanceof DistError) return error;
  const shortage = shortageOf(error) ?? descriptorShortage();
  return shortage ? new DistError(`${what}: ${shortage.text}`, { code: shortage.code, cause: error }) : error;
}

/** Awaits a module that is imported on first use. Without a free descriptor Bun reports that it does not exist. */
export async function loaded<Module>(module: Promise<Module>): Promise<Module> {
  try {
    return await module;
  } catch (error) {
    throw explained("cannot load a part of this package", error);
  }
}

function ofProcess(needed: Need): Shortage {
  const { soft, hard } = limit("open_files");
  const more = Math.max(4_096, 2 * (needed ?? 0), 2 * (Number(soft) || 0));
  const text = `this process has no file descriptor left: \`ulimit -n\` is ${soft}${about(needed, soft)}`;
  const beyond =
    Number(hard) < more ? ` (above ${hard} that needs root, or the settings of the service or container)` : "";
  return { code: "OUT_OF_DESCRIPTORS", text: `${text}. Raise it before the start: \`ulimit -n ${more}\`${beyond}` };
}

function ofMachine(): Shortage {
  return { code: "OUT_OF_DESCRIPTORS", text: "this machine has no file descriptor left: raise its sysctl fs.file-max" };
}

function ofMemory(): Shortage {
  const text = `there is no memory left for this process: \`ulimit -v\` is ${limit("virtual_memory_kbytes").soft}`;
  return {
    code: "OUT_OF_MEMORY",
    text: `${text}. Check that, what else runs here, and the limit of the container`,
  };
}

function ofProcesses(): Shortage {
  const text = `this user can have no more processes or threads: \`ulimit -u\` is ${limit("max_user_processes").soft}`;
  return { code: "OUT_OF_PROCESSES", text: `${text}. Raise it, or the pids limit of the container` };
}

/** The number needed, if it is above the limit: otherwise others have taken the descriptors. */
function about(needed: Need, soft: unknown): string {
  return needed === undefined || needed <= Number(soft) ? "" : `, and about ${needed} are needed`;
}

interface Limit {
  readonly soft: unknown;
  readonly hard: unknown;
}

/** A limit of this process. Reading it needs no descriptor. */
function limit(name: string): Limit {
  const report: unknown = process.report?.getReport();
  const limits = (report as { readonly userLimits?: Readonly<Record<string, Limit>> } | undefined)?.userLimits;
  return limits?.[name] ?? { soft: "unknown", hard: "unknown" };
}
