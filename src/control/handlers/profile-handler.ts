import type { TraceEntry } from "../../recorder/index.ts";
import type { BuiltInHandler } from "./control-handler.ts";
import { entriesOf } from "./served-rank.ts";

/**
 * What PyTorch's front end opens in Perfetto: the ops that were in flight since the moment of the parameter `since` (Unix
 * time in milliseconds), as a Chrome trace. The server's thread lets the time of the parameter `duration` pass before. It
 * is no profile of the JavaScript code.
 */
export const profileHandler: BuiltInHandler = (served) => ({
  name: "torch_profile",
  duringWait: true,
  handle: (request, response) => {
    const since = Number(request.getParam("since"));
    const now = Date.now();
    const entries = entriesOf(served, false).filter(({ timeFinished = now }) => timeFinished >= since);
    const text = JSON.stringify({ traceEvents: [...names(entries), ...entries.map((each) => span(each, now))] });
    // The front end puts it into a script.
    response.setContent(text.replaceAll("<", "\\u003c"), "application/json");
  },
});

/** One row for each group, under a name. */
function names(entries: readonly TraceEntry[]): object[] {
  const groups = new Map(entries.map(({ group }) => [group.name, group]));
  const title = {
    ph: "M",
    pid: process.pid,
    name: "process_name",
    args: { name: `Bun ${process.pid}: ops of bun-c10d` },
  };
  const rows = [...groups.values()].map(({ name, description }) => {
    const args = { name: `group ${name} (${description})` };
    return { ph: "M", pid: process.pid, tid: name, name: "thread_name", args };
  });
  return [title, ...rows];
}

function span(entry: TraceEntry, now: number): object {
  const { op, seq, group, state, timeCreated, timeFinished = now } = entry;
  const dtype = entry.inputs[0]?.dtype ?? entry.outputs[0]?.dtype;
  return {
    ph: "X",
    pid: process.pid,
    tid: group.name,
    name: op,
    ts: timeCreated * 1_000,
    dur: (timeFinished - timeCreated) * 1_000,
    args: { seq, state, dtype, ranks: group.globalRanks },
  };
}
