/** An event of Chrome's trace format, which Perfetto and `chrome://tracing` show. */
export interface TraceEvent {
  readonly ph: "X" | "M";
  readonly name: string;
  readonly pid: number;
  readonly tid: number;
  readonly cat?: string;
  /** In microseconds. */
  readonly ts?: number;
  readonly dur?: number;
  readonly args: Readonly<Record<string, unknown>>;
}

/** An op on the timeline. Times are in milliseconds. */
export interface TraceSpan {
  readonly name: string;
  readonly start: number;
  readonly duration: number;
  readonly args: Readonly<Record<string, unknown>>;
}

/** What is told of the group of an op. */
export interface SpanGroup {
  readonly uid: string;
  readonly description: string;
  /** Global ranks. */
  readonly ranks: readonly number[];
}

/** Lanes of one group, each a thread of the trace, since ops in flight at once cannot share one. */
const LANES = 1000;
const US_PER_MS = 1e3;

/** The events of one process of a trace: a row for each group. */
export class ProcessEvents {
  readonly events: TraceEvent[];
  readonly #pid: number;
  #rows = 0;

  /** @param pid What stands for the process, such as its rank; processes are shown in the order of these. */
  constructor(pid: number, name: string) {
    this.#pid = pid;
    this.events = [
      { ph: "M", name: "process_name", pid, tid: 0, args: { name } },
      { ph: "M", name: "process_sort_index", pid, tid: 0, args: { sort_index: pid } },
    ];
  }

  /** Adds the ops of one group, in the order of their starts. */
  addRow(title: string, spans: Iterable<TraceSpan>): void {
    const first = LANES * this.#rows++;
    const ends: number[] = [];
    for (const { name, start, duration, args } of spans) {
      const free = ends.findIndex((end) => end <= start);
      const lane = Math.min(free < 0 ? ends.length : free, LANES - 1);
      const [pid, tid] = [this.#pid, first + lane];
      if (lane === ends.length) {
        const laneTitle = lane === 0 ? title : `${title}, in flight at once: ${lane + 1}`;
        this.events.push({ ph: "M", name: "thread_name", pid, tid, args: { name: laneTitle } });
      }
      ends[lane] = start + duration;
      const times = { ts: start * US_PER_MS, dur: Math.max(0, duration) * US_PER_MS };
      this.events.push({ ph: "X", cat: "cpu_op", name, pid, tid, ...times, args });
    }
  }
}

/** Arguments of an op about its group, with the names that Holistic Trace Analysis reads. */
export function groupArgs({ uid, description, ranks }: SpanGroup): Readonly<Record<string, unknown>> {
  return {
    "Group size": ranks.length,
    "Process Group Name": uid,
    "Process Group Description": description,
    "Process Group Ranks": `[${ranks.join(", ")}]`,
  };
}
