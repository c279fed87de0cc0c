import { durationText } from "../../../time/duration-text.ts";
import { connect, type Loss } from "./connection.ts";
import { element, setAttribute, setText } from "./element.ts";
import { ProblemList } from "./problem-list.ts";
import { RankTable } from "./rank-table.ts";
import { addShortcuts } from "./shortcuts.ts";
import type { ProblemView, Snapshot } from "./snapshot.ts";
import { Tabs } from "./tabs.ts";
import { Timeline } from "./timeline.ts";

const timeline = new Timeline();
const tabs = new Tabs((view) => {
  timeline.isShown = view === "timeline";
});
const goTo = (rank: number | undefined, group?: string) => {
  tabs.show("timeline");
  if (rank !== undefined) timeline.goTo(rank, group);
};
const table = new RankTable(goTo);
const list = new ProblemList(({ ranks, group }) => goTo(ranks[0], group));
addShortcuts(
  new Map([
    ["1", () => tabs.show("ranks")],
    ["2", () => tabs.show("timeline")],
    ["3", () => tabs.show("problems")],
    ["p", () => timeline.togglePause()],
    [",", () => timeline.pan(-0.25)],
    [".", () => timeline.pan(0.25)],
    ["+", () => timeline.zoomIn()],
    ["=", () => timeline.zoomIn()],
    ["-", () => timeline.zoomOut()],
  ]),
);

const text = (selector: string, value: string) => setText(element(selector, HTMLElement), value);

const losses: Readonly<Record<Loss, string>> = {
  gone: "The launcher does not answer. It has ended or has been killed; what is shown is old.",
  silent: "The launcher has sent nothing for five seconds. Its process may be stopped; what is shown is old.",
  full: "Too many pages of this job are open. Close one; this page then connects by itself.",
};

text("#facts", "waiting for the launcher");
text("#verdict .text", "Waiting for the launcher to start the ranks.");
text("#ranks .empty", "No rank has started yet.");

connect({
  onOpen: () => timeline.clear(),
  onSnapshot: show,
  onLost: (loss) => {
    showState("lost", loss === "full" ? "not connected" : "no answer");
    showVerdict("lost", "×", losses[loss]);
  },
});

function show(snapshot: Snapshot): void {
  const { job, ranks, problems, report, end } = snapshot;
  text("#program", job.program);
  setAttribute(element("#program", HTMLElement), "title", job.program);
  text("#facts", factsOf(snapshot));
  text("#ops-rate", job.opsPerSecond || "–");
  text("#bytes-rate", job.bytesPerSecond || "–");
  text("#count", String(problems.length));
  setAttribute(element("#count", HTMLElement), "data-some", String(problems.length > 0));
  document.title = `${problems.length > 0 ? `(${problems.length}) ` : ""}${job.program} – c10d`;
  if (end === undefined) showState("running", "running");
  else showState(end.exitCode === 0 ? "done" : "failed", `ended, exit code ${end.exitCode}`);
  table.show(ranks);
  const fresh = list.show(problems, report, job.attempt, end);
  timeline.update(snapshot);
  const [first] = problems;
  if (end !== undefined) showEnd(end.exitCode, first);
  else if (first !== undefined) showVerdict(first.kind, "!", sentence(first, problems.length));
  else showVerdict("calm", "✓", ranks.length === 0 ? "No rank has started yet." : calmText(job.attempt));
  announce(snapshot, fresh);
}

function factsOf({ at, job, ranks }: Snapshot): string {
  const { id, worldSize, attempt, nnodes, node, startedAt } = job;
  const hosts = new Set(ranks.map(({ host }) => host).filter((host) => host !== ""));
  return [
    worldSize === 1 ? "1 rank" : `${worldSize} ranks`,
    ...(nnodes > 1 ? [`seen from node ${node} of ${nnodes}`] : hosts.size === 1 ? [`on ${[...hosts][0]}`] : []),
    ...(attempt > 0 ? [`restart ${attempt}`] : []),
    durationText(Math.max(1, Math.floor((at - startedAt) / 1_000)) * 1_000),
    `job ${id}`,
  ].join(" · ");
}

function calmText(attempt: number): string {
  return attempt === 0 ? "No problem has been seen." : `No problem has been seen since restart ${attempt}.`;
}

function sentence({ title }: ProblemView, count: number): string {
  return count > 1 ? `${title} (and ${count - 1} more)` : title;
}

function showEnd(exitCode: number, first: ProblemView | undefined): void {
  const isGood = exitCode === 0;
  const why = first === undefined || isGood ? "" : `: ${first.title}`;
  showVerdict(isGood ? "done" : "failed", isGood ? "✓" : "×", `The job has ended with exit code ${exitCode}${why}`);
}

function showState(state: string, words: string): void {
  setAttribute(element("#state", HTMLElement), "data-state", state);
  text("#state", words);
}

function showVerdict(tone: string, mark: string, words: string): void {
  setAttribute(element("#verdict", HTMLElement), "data-tone", tone);
  text("#verdict .mark", mark);
  text("#verdict .text", words);
  setAttribute(element("#verdict", HTMLElement), "title", words);
}

/** Only what is new, since the times in it change all the time. */
function announce({ end }: Snapshot, fresh: readonly ProblemView[]): void {
  const words = fresh.map(({ title }) => title);
  if (end !== undefined) words.push(`The job has ended with exit code ${end.exitCode}`);
  if (words.length > 0) text("#announcer", words.join(". "));
}
