import { basename } from "node:path";
import { InvalidArgumentError } from "../../errors/index.ts";
import { type JobStatus, type LaunchedJobInfo, type RankStatus, readJobs } from "../../status/index.ts";

/** A running job as `c10d top` shows it: its ranks on this host, whichever launchers started them. */
export interface WatchedJob {
  readonly id: string;
  /** What it runs. */
  readonly program: string;
  /** How often it has been restarted; undefined if no `c10d run` started it. */
  readonly attempt: number | undefined;
  readonly worldSize: number;
  readonly ranks: readonly RankStatus[];
  /** Ranks that its launchers have started here and that have no record. */
  readonly unknown: readonly number[];
}

/** The jobs of this user that are running on this host, the newest first. */
export function runningJobs(): WatchedJob[] {
  const byId = new Map<string, JobStatus[]>();
  for (const job of readJobs()) {
    if (!job.isRunning) continue;
    const id = job.launched?.runId ?? job.id;
    byId.set(id, [...(byId.get(id) ?? []), job]);
  }
  return [...byId].map(([id, parts]) => watchedJob(id, parts));
}

function watchedJob(id: string, parts: readonly JobStatus[]): WatchedJob {
  const attempts = parts.flatMap(({ launched }) => launched?.attempt ?? []);
  const attempt = attempts.length === 0 ? undefined : Math.max(...attempts);
  const current = parts.filter(({ launched }) => launched === undefined || launched.attempt === attempt);
  const ranks = current.flatMap((part) => part.ranks).sort((a, b) => a.rank - b.rank || a.thread - b.thread);
  const launched = current.find((part) => part.launched !== undefined)?.launched;
  const program = ranks.find((rank) => rank.program !== "")?.program ?? launched?.command[1] ?? "";
  const nodes = current.map((part) => (part.launched ? part.launched.ranks * part.launched.nnodes : 0));
  const known = new Set(ranks.map(({ rank }) => rank));
  const started = current.flatMap((part) => (part.launched === undefined ? [] : ranksOf(part.launched)));
  return {
    id,
    program: basename(program),
    attempt,
    worldSize: Math.max(0, ...ranks.map(({ worldSize }) => worldSize), ...nodes),
    ranks,
    unknown: started.filter((rank) => !known.has(rank)).sort((a, b) => a - b),
  };
}

/** The global ranks that a launcher has started. */
function ranksOf({ node, ranks }: LaunchedJobInfo): number[] {
  return Array.from({ length: ranks }, (_, localRank) => node * ranks + localRank);
}

/** The job of this name among those that are running; the newest without a name. @throws InvalidArgumentError */
export function chosenJob(name: string | undefined, jobs: readonly WatchedJob[]): WatchedJob {
  const found = name === undefined ? jobs.slice(0, 1) : jobs.filter(({ id }) => id.startsWith(name));
  const [only] = found.length > 1 ? found.filter(({ id }) => id === name) : found;
  if (only !== undefined) return only;
  const list = jobs.map((job) => `  ${jobLine(job)}\n`).join("");
  const running =
    jobs.length === 0 ? "no job of this user is running on this host" : `running here:\n${list}`.trimEnd();
  if (name === undefined) throw new InvalidArgumentError(running, { argument: "job" });
  const why = found.length > 1 ? `several jobs have an id that begins with ${name}` : `there is no job ${name}`;
  throw new InvalidArgumentError(`${why}; ${running}`, { argument: "job" });
}

/** A job in one line. */
export function jobLine({ id, program, worldSize, attempt }: WatchedJob): string {
  const restarts =
    attempt === undefined || attempt === 0 ? "" : `, restarted ${attempt === 1 ? "once" : `${attempt} times`}`;
  return `${id}: ${program === "" ? "" : `${program}, `}${worldSize} ${worldSize === 1 ? "rank" : "ranks"}${restarts}`;
}
