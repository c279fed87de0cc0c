import { environmentText } from "../../environment/index.ts";
import type { RankStatus } from "../../status/index.ts";
import { pause } from "../../time/index.ts";
import { ratesOf } from "../ranks/rates.ts";
import { type TopContent, TopScreen } from "./top-screen.ts";
import { type TopView, topTable } from "./top-table.ts";
import { chosenJob, runningJobs, type WatchedJob } from "./watched-job.ts";

export interface TopOptions {
  /** Id of the job, or its beginning; the newest job without. */
  readonly job: string | undefined;
  readonly once: boolean;
  readonly json: boolean;
  readonly intervalMs: number;
}

/** Time between the two looks that rates need when the state is printed once. */
const SAMPLE_MS = 200;

/** Shows what the ranks of a job are doing, until the user quits or the job ends. Resolves to the exit code. */
export async function top(options: TopOptions): Promise<number> {
  const first = chosenJob(options.job, runningJobs());
  if (options.once || options.json || !process.stdout.isTTY) return printOnce(options, first);
  const end = await follow(options, first);
  if (end !== undefined) console.log(end);
  return 0;
}

async function printOnce({ job, json }: TopOptions, first: WatchedJob): Promise<number> {
  await pause(SAMPLE_MS);
  const view = viewOf(first, job) ?? { job: first, others: [], ratesOf: () => undefined };
  if (json) {
    const ranks = view.job.ranks.map((status) => ({ ...status, ...view.ratesOf(status) }));
    console.log(JSON.stringify({ ...view.job, ranks }));
    return 0;
  }
  const { head, body } = topTable(view, { colours: false, width: process.stdout.columns || Number.POSITIVE_INFINITY });
  console.log([...head, ...body].join("\n"));
  return 0;
}

/** Returns what to print at the end: what was shown last, if the job has ended. */
async function follow({ job, intervalMs }: TopOptions, first: WatchedJob): Promise<string | undefined> {
  using screen = new TopScreen();
  const quit = new AbortController();
  void screen.quit.then(() => quit.abort());
  const colours = !environmentText("NO_COLOR");
  let content: TopContent | undefined;
  for (let before = first; !quit.signal.aborted; ) {
    const view = viewOf(before, job);
    if (view === undefined) {
      const { head = [], body = [] } = content?.(process.stdout.columns || 80) ?? {};
      return [...head, ...body, `job ${before.id} has ended; this was its last state`].join("\n");
    }
    const shown: TopContent = (width) => topTable(view, { colours, width });
    screen.show(shown);
    [content, before] = [shown, view.job];
    await pause(intervalMs, quit.signal).catch(() => {});
  }
  return undefined;
}

/** A new look at a job; undefined if it has ended. Who has named a job does not ask for the others. */
function viewOf(before: WatchedJob, name: string | undefined): TopView | undefined {
  const jobs = runningJobs();
  const job = jobs.find(({ id }) => id === before.id);
  if (job === undefined) return undefined;
  const key = ({ rank, pid, thread }: RankStatus) => `${rank} ${pid} ${thread}`;
  const known = new Map(before.ranks.map((status) => [key(status), status]));
  return {
    job,
    others: name === undefined ? jobs.filter((other) => other !== job) : [],
    ratesOf: (status) => ratesOf(known.get(key(status)), status),
  };
}
