import { InvalidArgumentError } from "../errors/index.ts";
import { defineCommand } from "./command.ts";
import { parseTime } from "./run-flags.ts";

/** `c10d top`: what each rank of a running job is in. */
export const topCommand = defineCommand({
  name: "top",
  summary: "Shows the op that each rank of a running job on this host is in, since when, and where it was called.",
  operands: "[job]",
  flags: {
    once: { type: "boolean", description: "print once, also on a terminal" },
    json: { type: "boolean", description: "print once, as JSON" },
    interval: { type: "string", value: "<time>", default: "500ms", description: "time between two looks" },
  },
  notes:
    "A job is named by its id or the beginning of it; without one, the newest is shown. Only jobs of this user are seen.\n" +
    "Keys: q quits; the arrow keys, Page Up and Page Down scroll. A rank marked with ! has not called the collective that\n" +
    "others are waiting in; the last op of one marked with × has failed. A call site is known once an op has been pending\n" +
    "for 100 ms.",
  async run(values, [job, more]) {
    if (more !== undefined) {
      throw new InvalidArgumentError(`unexpected argument ${JSON.stringify(more)}: one job is shown`, {
        argument: "job",
      });
    }
    const { top } = await import("./top/top.ts");
    return top({
      job,
      once: values.once ?? false,
      json: values.json ?? false,
      intervalMs: parseTime("interval", values.interval, 500),
    });
  },
});
