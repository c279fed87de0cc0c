import type { FlightRecorder } from "../../recorder/index.ts";
import { recorderOf } from "../../registry/index.ts";
import type { BuiltInHandler } from "./control-handler.ts";
import type { HandlerRequest } from "./handler-request.ts";
import type { HandlerResponse } from "./handler-response.ts";

/** What a dump contains. */
type DumpChoice = Record<"includeCollectives" | "includeStackTraces" | "onlyActive", boolean> & {
  readonly globalRank?: number;
};

type Write = (recorder: FlightRecorder, choice: DumpChoice, response: HandlerResponse) => void;

const writeJson: Write = (recorder, choice, response) =>
  response.setContent(JSON.stringify(recorder.dump(choice)), "application/json");

const writePickle: Write = (recorder, choice, response) =>
  response.setContent(recorder.dumpPickle(choice), "application/octet-stream");

/** c10d's dumps, whatever the backend: the names with `nccl` are those that its tools ask for. */
export const traceHandlers: readonly BuiltInHandler[] = [
  dumpHandler("dump_nccl_trace_pickle", writePickle),
  dumpHandler("dump_nccl_trace_json", writeJson),
  dumpHandler("fr_trace_json", writeJson),
];

function dumpHandler(name: string, write: Write): BuiltInHandler {
  return ({ container, globalRank }) => ({
    name,
    duringWait: true,
    handle: (request, response) => {
      const choice = choiceOf(request);
      if (typeof choice === "string") {
        response.setStatus(400);
        response.setContent(choice, "text/plain");
      } else write(recorderOf(container), { ...choice, ...(globalRank !== undefined && { globalRank }) }, response);
    },
  });
}

const parameters = new Map<string, "includeCollectives" | "includeStackTraces" | "onlyActive">([
  ["includecollectives", "includeCollectives"],
  ["includestacktraces", "includeStackTraces"],
  ["onlyactive", "onlyActive"],
]);

/** The parameters of a request, or what is wrong with them. */
function choiceOf({ params }: HandlerRequest): DumpChoice | string {
  const choice = { includeCollectives: true, includeStackTraces: true, onlyActive: false };
  for (const [name, value] of params) {
    const known = parameters.get(name);
    if (known === undefined) continue;
    if (value !== "true" && value !== "false") return `Invalid value for ${name} valid values are true or false`;
    choice[known] = value === "true";
  }
  const areKnown = [...params.keys()].every((name) => parameters.has(name));
  return areKnown ? choice : "Invalid parameters - unexpected param passed in";
}
