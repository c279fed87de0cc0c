import { relative } from "node:path";
import type { DistError, ErrorDetails } from "./dist-error.ts";

/**
 * Where user code called an op: an Error made at that time, whose stack is formatted only when somebody reads it. Read
 * it with {@link framesOf} and {@link lineOf}.
 */
export type CallSite = Error;

/** One frame of a stack. */
export interface Frame {
  /** Name of the function; empty at the top level of a module and in an anonymous function. */
  readonly name: string;
  readonly file: string;
  readonly line: number;
  readonly column: number;
  /** The line of a stack that shows it. */
  readonly text: string;
}

/**
 * Number of frames that are captured, those of this package included. The time to make an Error grows with it, and the
 * user's line is rarely further away.
 */
const MAX_FRAMES = 8;
/** Number of frames of this package that the stack of an error about a call keeps: who reads it looks for their own. */
const MAX_OWN_FRAMES = 3;

/** The folder of this package's sources; `undefined` if they were bundled together with other code. */
const ownFolder = import.meta.path.endsWith("/src/errors/call-site.ts")
  ? import.meta.path.slice(0, -"errors/call-site.ts".length)
  : undefined;

const FRAME = /^\s*at (?:(.*?) \()?(?:file:\/\/)?(\/.*?):(\d+):(\d+)\)?$/;

const known = new WeakMap<CallSite, readonly Frame[]>();
const extended = new WeakSet<Error>();

/**
 * Remembers the current stack. A function that returns the value of its last call, such as
 * `const step = () => dist.allReduce(t)`, has no frame of its own: strict code makes a tail call there, and the frame
 * shown is that of its caller.
 */
export function captureCallSite(): CallSite {
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = MAX_FRAMES;
  const site = new Error();
  Error.stackTraceLimit = limit;
  return site;
}

/** The frames of user code, the innermost first; none if tail calls have left none. */
export function framesOf(site: CallSite): readonly Frame[] {
  let frames = known.get(site);
  if (frames === undefined) {
    const all = stackOf(site).split("\n").flatMap(frameOf);
    const first = all.findIndex((frame) => !isOwn(frame.file) && !isBundled(frame.name));
    frames = first < 0 ? [] : all.slice(first);
    known.set(site, frames);
  }
  return frames;
}

/**
 * The user's line, as `file:line:column` with the file relative to the current folder; `undefined` if unknown, or if there
 * is no call site (`C10D_CALL_SITES=0`). A function that does no more than `return group.allReduce(t)` has no line: its
 * call is replaced by that of the op, so that its caller is shown.
 *
 * ```ts
 * group.registerHook({ post: ({ op, callSite }) => console.log(op, lineOf(callSite)) });
 * ```
 */
export function lineOf(site: CallSite | undefined): string | undefined {
  const [frame] = site === undefined ? [] : framesOf(site);
  if (frame === undefined) return undefined;
  const below = relative(process.cwd(), frame.file);
  const file = below === "" || below.startsWith("..") ? frame.file : below;
  return `${file}:${frame.line}:${frame.column}`;
}

/** Adds to the details of an error; a frozen one stays as it is. */
export function addDetails(error: DistError, details: ErrorDetails): void {
  try {
    Object.assign(error.details, details);
  } catch {
    // As in setFrames().
  }
}

/** Adds to the message of an error, in its stack as well, and to its details. Once for each text. */
export function addToError(error: DistError, text: string, details: ErrorDetails = {}): void {
  const { message } = error;
  if (!message.includes(text)) rewrite(error, `${message.replace(/\.$/, "")}; ${text}`, details);
}

/** Replaces a part of the message of an error that {@link addToError} might have added; by nothing if it is empty. */
export function replaceInError(error: DistError, text: string, by: string): void {
  const part = by === "" ? "" : `; ${by}`;
  const message = error.message.replace(`; ${text}`, () => part);
  if (message !== error.message) rewrite(error, message, {});
}

/**
 * Names an op in an error by the name under which the user called it, where the error names an inner op that carries it
 * out.
 * @param seq Number of that op; -1 if it has none.
 */
export function renameOp(error: DistError, op: string, seq: number): void {
  const { message, details } = error;
  const inner = details?.op;
  if (inner === undefined || inner === op) return;
  const number = details.seq === undefined || details.seq < 0 ? "" : ` #${details.seq}`;
  const head = message.startsWith(`${inner}${number} `) ? `${inner}${number}` : inner;
  const hasHead = message.startsWith(head) && /^[ :]/.test(message.slice(head.length));
  const isNumbered = head !== inner && seq >= 0;
  const own = `${op}${isNumbered ? ` #${seq}` : head.slice(inner.length)}`;
  const renamed = hasHead ? `${own}${message.slice(head.length)}` : message;
  rewrite(error, renamed, { op, ...(details.seq !== undefined && seq >= 0 && { seq }) });
}

/** Replaces the message of an error, in its stack as well, and adds to its details. */
function rewrite(error: DistError, message: string, details: ErrorDetails): void {
  const before = error.message;
  const stack = stackOf(error);
  try {
    error.message = message;
    Object.assign(error.details, details);
    // A function, since a text may contain "$&".
    if (stack !== "") error.stack = stack.replace(before, () => message);
  } catch {
    // As in setFrames().
  }
}

/**
 * Puts the frames of a call site before those of an error about that call, of which few are kept that are in this
 * package, also in the errors that caused it. Once for each error.
 */
export function addCallSite(error: Error, site: CallSite): void {
  if (extended.has(error)) return;
  extended.add(error);
  const frames = framesOf(site).map(({ text }) => text);
  if (frames.length > 0) setFrames(error, frames);
  const { cause } = error;
  if (cause instanceof Error && !extended.has(cause)) {
    extended.add(cause);
    setFrames(cause, []);
  }
}

/** Puts frames before those of an error. */
function setFrames(error: Error, frames: readonly string[]): void {
  try {
    const stack = stackOf(error);
    if (stack === "") return;
    const at = stack.search(/\n\s+at /);
    const head = at < 0 ? stack : stack.slice(0, at);
    let own = 0;
    const kept = (at < 0 ? "" : stack.slice(at + 1)).split("\n").flatMap((line) => {
      const [frame] = frameOf(line);
      const text = frame?.text ?? line;
      if (text === "" || frames.includes(text)) return [];
      return frame !== undefined && isOwn(frame.file) && ++own > MAX_OWN_FRAMES ? [] : [text];
    });
    error.stack = [head, ...frames, ...kept].join("\n");
  } catch {
    // The class of a user's error may not allow it; the error itself matters more.
  }
}

function frameOf(stackLine: string): Frame[] {
  const match = FRAME.exec(stackLine);
  if (match === null) return [];
  const [, given = "", file = "", line, column] = match;
  // Bun prints the source of the first frame, and the frames at all, only if that one has this form.
  const text = `    at ${given || "<anonymous>"} (${file}:${line}:${column})`;
  const name = given === "<anonymous>" ? "" : given;
  return [{ name, file, line: Number(line), column: Number(column), text }];
}

/** A program may have set `Error.prepareStackTrace`, which may return anything, or throw. */
function stackOf(error: Error): string {
  try {
    const { stack }: { stack?: unknown } = error;
    return typeof stack === "string" ? stack : "";
  } catch {
    return "";
  }
}

/** Whether a function is one of this package between the user's call and {@link captureCallSite}, in a bundle. */
function isBundled(name: string): boolean {
  return ownFolder === undefined && /^(?:captureCallSite|#?(?:callSite|run|runSteps|objects)|onGroup)\d*$/.test(name);
}

/** Whether a file is one of this package, and no test of it. */
function isOwn(file: string): boolean {
  if (ownFolder === undefined || !file.startsWith(ownFolder)) return false;
  const inside = file.slice(ownFolder.length);
  return !/\.test\.ts$|\/fixtures\//.test(inside);
}
