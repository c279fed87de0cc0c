import type { RankStatus } from "../../status/index.ts";
import type { OutputSink } from "./job-output.ts";
import type { RankExit } from "./rank-process.ts";
import type { Verdict } from "./verdict.ts";

/** Events of a job as `--json` prints them: one object a line. */
export type JobEvent =
  | {
      readonly event: "started";
      readonly runId: string;
      readonly attempt: number;
      readonly node: number;
      readonly nnodes: number;
      readonly worldSize: number;
      readonly masterAddr: string;
      readonly masterPort: number;
      readonly ranks: readonly { readonly rank: number; readonly localRank: number; readonly pid: number }[];
    }
  | ({ readonly event: "rankEnded"; readonly attempt: number } & RankExit)
  | {
      readonly event: "failed";
      readonly attempt: number;
      readonly cause: Verdict;
      /** Ranks of this node that were stopped because of it, and those of them that had to be killed. */
      readonly stopped: readonly number[];
      readonly killed: readonly number[];
    }
  | {
      /** What the ranks of this node were doing, at SIGQUIT and before an attempt is ended. */
      readonly event: "status";
      readonly attempt: number;
      readonly ranks: readonly RankStatus[];
    }
  | { readonly event: "restarted"; readonly attempt: number; readonly maxRestarts: number }
  | {
      readonly event: "finished";
      readonly exitCode: number;
      /** Number of attempts made. */
      readonly attempts: number;
      readonly elapsedMs: number;
    };

/** Writes the events of a job to a stream, or drops them. */
export class JobEvents {
  readonly #sink: OutputSink | undefined;

  constructor(sink: OutputSink | undefined) {
    this.#sink = sink;
  }

  async emit(event: JobEvent): Promise<void> {
    const { event: name, ...details } = event;
    const line = JSON.stringify({ event: name, time: new Date().toISOString(), ...details });
    await this.#sink?.write(Buffer.from(`${line}\n`));
  }
}
