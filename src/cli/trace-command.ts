import { statSync } from "node:fs";
import { join } from "node:path";
import { InvalidArgumentError, messageOf, printable } from "../errors/index.ts";
import { createOwnFile } from "../files/index.ts";
import { pickle } from "../pickle/index.ts";
import {
  type Analysis,
  analyse,
  type Dumps,
  kinetoTrace,
  paragraph,
  portableDump,
  readDumps,
  report,
  reportJson,
} from "../trace/index.ts";
import { defineCommand } from "./command.ts";

const WIDTH = 80;
const MAX_LAST = 1_000_000;
/** Groups that the error of an unknown one names. */
const MAX_NAMES = 20;

/** `c10d trace`: compares the dumps of the ranks' flight recorders. */
export const traceCommand = defineCommand({
  name: "trace",
  summary:
    "Compares dumps of flight recorders, of Bun and of PyTorch's ranks, JSON or pickle, and says who is missing\n" +
    "where, whose calls differ, and what each rank did last.",
  operands: "FILES…",
  flags: {
    json: { type: "boolean", description: "print JSON, as described in docs/trace.md" },
    group: { type: "string", value: "NAME", description: "look only at the group of this name or description" },
    last: { type: "string", value: "N", description: "also list the newest N ops of each rank" },
    chrome: {
      type: "string",
      value: "OUT",
      description: "write the timeline for Perfetto to this file, or one file per rank to this folder",
    },
    pickle: {
      type: "string",
      value: "FOLDER",
      description: "write the dumps to this folder as PyTorch's torchfrtrace can compare them",
    },
  },
  notes:
    "FILES are files, folders of files whose names end with a rank, or what such names start with.\n" +
    "The exit code is 0 if the dumps agree, 1 if something is wrong or missing, 2 for wrong usage.",
  async run(values, paths) {
    if (paths.length === 0) throw new InvalidArgumentError("no files given");
    const last = lastOf(values.last);
    const dumps = await readDumps(paths);
    const analysis = analyse(dumps.traces, values.group === undefined ? {} : { group: values.group });
    requireGroup(analysis, dumps, values.group);
    const outputs = [...filesOf(analysis, values.chrome, values.pickle)];
    requireOtherFiles(outputs, dumps);
    for (const { path, flag, content } of outputs) await write(path, flag, content());
    console.log(
      values.json ? JSON.stringify({ ...reportJson(analysis), ...files(dumps) }, null, 2) : text(analysis, dumps, last),
    );
    const isSound = analysis.findings.length === 0 && analysis.absent.length === 0 && dumps.unreadable.length === 0;
    return isSound && dumps.traces.length > 0 ? 0 : 1;
  },
});

function lastOf(value: string | undefined): number {
  if (value === undefined) return 0;
  const last = Number(value);
  if (/^\d+$/.test(value) && last > 0 && last <= MAX_LAST) return last;
  throw new InvalidArgumentError(`--last must be a number of ops, got "${value}"`, { argument: "--last" });
}

function requireGroup({ job }: Analysis, { traces }: Dumps, name: string | undefined): void {
  if (name === undefined || traces.length === 0) return;
  const names = new Set(job.groups.flatMap(({ group }) => [group.uid, group.description]));
  for (const { group } of job.traces.flatMap(({ groupCalls = [] }) => groupCalls)) names.add(group);
  if (names.has(name)) return;
  const uids = [...new Set(job.groups.map(({ group }) => group.uid))];
  const quoted = uids.slice(0, MAX_NAMES).map((uid) => `"${printable(uid)}"`);
  const more = uids.length > MAX_NAMES ? `, and ${uids.length - MAX_NAMES} more` : "";
  const known =
    uids.length === 0 ? "there is none" : `there ${uids.length === 1 ? "is" : "are"} ${quoted.join(", ")}${more}`;
  throw new InvalidArgumentError(`no group has the name "${printable(name)}"; ${known}`, { argument: "--group" });
}

function text(analysis: Analysis, { traces, unreadable, superseded, ofOtherJobs }: Dumps, last: number): string {
  const broken = unreadable.map(({ file, reason }) =>
    paragraph(`${printable(file)} is no dump: ${printable(reason)}`, WIDTH, "  "),
  );
  const ignored = [
    ["a rank has a newer one", superseded],
    ["the newest dump is of another job, or of a later world of the same one", ofOtherJobs],
  ] as const;
  const older = ignored
    .filter(([, names]) => names.length > 0)
    .map(([why, names]) => paragraph(`Not looked at, since ${why}: ${printable(names.join(", "))}`, WIDTH, "  "));
  const verdict =
    traces.length === 0 ? "There is no dump." : report(analysis, { last, isIncomplete: unreadable.length > 0 });
  return [verdict, ...broken, ...older].join("\n\n");
}

function files({ unreadable, superseded, ofOtherJobs }: Dumps): object {
  return { unreadable, superseded, ofOtherJobs };
}

/** A file to be written. */
interface OutputFile {
  readonly path: string;
  readonly flag: string;
  readonly content: () => string | Uint8Array;
}

function* filesOf({ job }: Analysis, chrome: string | undefined, folder: string | undefined): Iterable<OutputFile> {
  const ranks = job.traces.map(({ rank }) => rank);
  const timeline = (of: readonly number[]) => () => JSON.stringify(kinetoTrace(job, of));
  if (chrome !== undefined && isFolder(chrome)) {
    for (const rank of ranks) {
      yield { path: join(chrome, `rank_${rank}.json`), flag: "--chrome", content: timeline([rank]) };
    }
  } else if (chrome !== undefined) yield { path: chrome, flag: "--chrome", content: timeline(ranks) };
  if (folder === undefined) return;
  if (!isFolder(folder))
    throw new InvalidArgumentError(`--pickle needs a folder, and ${folder} is none`, { argument: "--pickle" });
  for (const trace of job.traces) {
    const content = () => pickle(portableDump(job, trace));
    yield { path: join(folder, `rank_${trace.rank}`), flag: "--pickle", content };
  }
}

/** Throws if a file to be written is one of the dumps, also by another name. */
function requireOtherFiles(files: readonly OutputFile[], dumps: Dumps): void {
  const idOf = (path: string): string | undefined => {
    const stats = statSync(path, { bigint: true, throwIfNoEntry: false });
    return stats && `${stats.dev} ${stats.ino}`;
  };
  const read = [
    ...dumps.traces.map(({ file }) => file),
    ...dumps.unreadable.map(({ file }) => file),
    ...dumps.superseded,
    ...dumps.ofOtherJobs,
  ];
  const ids = new Set(read.map(idOf));
  for (const { path, flag } of files) {
    const id = idOf(path);
    if (id === undefined || !ids.has(id)) continue;
    throw new InvalidArgumentError(`${flag} would overwrite ${path}, which is one of the dumps; name another place`, {
      argument: flag,
    });
  }
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}

async function write(path: string, flag: string, content: string | Uint8Array): Promise<void> {
  try {
    await using file = await createOwnFile(path);
    await file.writeFile(content);
  } catch (error) {
    throw new InvalidArgumentError(`${flag}: ${path} cannot be written: ${messageOf(error)}`, {
      argument: flag,
      cause: error,
    });
  }
}
