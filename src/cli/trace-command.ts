import { statSync } from "node:fs";
import { join } from "node:path";
import { InvalidArgumentError, printable } from "../errors/index.ts";
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
    if (values.chrome !== undefined) await writeTimeline(analysis, values.chrome);
    if (values.pickle !== undefined) await writePickles(analysis, values.pickle);
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
  if (job.groups.some(({ group }) => group.uid === name || group.description === name)) return;
  const names = job.groups.map(({ group }) => group.uid).slice(0, 20);
  throw new InvalidArgumentError(`no group has the name "${name}"; there are ${printable(names.join(", "))}`, {
    argument: "--group",
  });
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

async function writeTimeline({ job }: Analysis, out: string): Promise<void> {
  const ranks = job.traces.map(({ rank }) => rank);
  if (!isFolder(out)) {
    await write(out, JSON.stringify(kinetoTrace(job, ranks)));
    return;
  }
  for (const rank of ranks) await write(join(out, `rank_${rank}.json`), JSON.stringify(kinetoTrace(job, [rank])));
}

async function writePickles({ job }: Analysis, folder: string): Promise<void> {
  if (!isFolder(folder))
    throw new InvalidArgumentError(`--pickle needs a folder, and ${folder} is none`, { argument: "--pickle" });
  for (const trace of job.traces) await write(join(folder, `rank_${trace.rank}`), pickle(portableDump(job, trace)));
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}

async function write(path: string, content: string | Uint8Array): Promise<void> {
  await using file = await createOwnFile(path);
  await file.writeFile(content);
}
