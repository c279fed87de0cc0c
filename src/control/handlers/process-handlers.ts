import { WaitCounter } from "../../time/index.ts";
import type { BuiltInHandler } from "./control-handler.ts";
import { tracebackText } from "./traceback-text.ts";

/** Handlers about the process as a whole. */
export const processHandlers: readonly BuiltInHandler[] = [
  // A server answers this one by itself.
  () => ({ name: "ping", duringWait: true, handle: (_, response) => response.setContent("pong", "text/plain") }),
  (served) => ({
    name: "dump_traceback",
    duringWait: true,
    handle: (_, response) => response.setContent(tracebackText(served), "text/plain"),
  }),
  () => ({
    name: "pyspy_dump",
    duringWait: true,
    handle: (_, response) => {
      response.setStatus(501);
      response.setContent(
        "py-spy reads the stacks of Python only, and this rank is Bun: see dump_traceback\n",
        "text/plain",
      );
    },
  }),
  () => ({
    name: "wait_counter_values",
    duringWait: true,
    handle: (_, response) => response.setContent(JSON.stringify(WaitCounter.values()), "application/json"),
  }),
];
