import type { TraceEntry } from "../../recorder/index.ts";
import { groupArgs, groupText, ProcessEvents, type TraceSpan } from "../../trace/index.ts";
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
    const shown = new ProcessEvents(process.pid, `Bun ${process.pid}: ops of bun-c10d`);
    // Several ranks of a process may share a container, and so a recorder.
    const rows = Map.groupBy(entries, ({ group }) => `${group.globalRanks[group.rank]} ${group.name}`);
    for (const own of rows.values()) {
      const { name: uid = "", description = "" } = own[0]?.group ?? {};
      shown.addRow(
        groupText({ uid, description }),
        own.map((entry) => span(entry, now)),
      );
    }
    const text = JSON.stringify({ traceEvents: shown.events });
    // The front end puts it into a script.
    response.setContent(text.replaceAll("<", "\\u003c"), "application/json");
  },
});

function span(entry: TraceEntry, now: number): TraceSpan {
  const { op, seq, group, state, timeCreated, timeFinished = now, callSite, error } = entry;
  const dtype = entry.inputs[0]?.dtype ?? entry.outputs[0]?.dtype;
  return {
    name: op,
    start: timeCreated,
    duration: timeFinished - timeCreated,
    args: {
      dtype,
      ...groupArgs({ uid: group.name, description: group.description, ranks: group.globalRanks }),
      Rank: group.globalRanks[group.rank],
      Seq: seq,
      State: state,
      ...(error !== undefined && { Error: error }),
      ...(callSite !== undefined && { "Call site": callSite }),
    },
  };
}
