import type { OutputStream } from "./job-output.ts";

export interface JobOptions {
  /** Number of ranks on each node. */
  readonly ranksPerNode: number;
  readonly nnodes: number;
  /** Number of this node, from 0. */
  readonly node: number;
  /** Program and arguments of every rank. */
  readonly command: readonly string[];
  /** Address that the ranks' store listens on, on node 0, and that the ranks connect to. */
  readonly masterAddr: string;
  /** 0 for a free port; only with one node. */
  readonly masterPort: number;
  /** Time limit of the whole job in milliseconds; `Infinity` for none. */
  readonly timeoutMs: number;
  /** Time between the first signal and SIGKILL, in milliseconds. */
  readonly graceMs: number;
  /** How often the job is restarted after a rank has failed. */
  readonly maxRestarts: number;
  /** How long to wait for the other nodes at the start, in milliseconds. */
  readonly joinTimeoutMs: number;
  /** A node that sends nothing for this time is lost, in milliseconds. */
  readonly lostAfterMs: number;
  /** Job id chosen by the user. */
  readonly runId: string | undefined;
  readonly prefix: boolean;
  /** Variables that every rank gets in addition to the launcher's own. */
  readonly env: Readonly<Record<string, string>>;
  /** Secret of the store; null for PyTorch's open protocol, undefined for a new one for each attempt. */
  readonly secret: string | null | undefined;
  /** Streams of the ranks that go to files. */
  readonly logs: { readonly folder: string; readonly streams: readonly OutputStream[] } | undefined;
  /** Whether output that goes to files is also printed. */
  readonly tee: boolean;
  /** Whether standard output carries events, and the ranks' output goes to standard error. */
  readonly json: boolean;
  /** Port of the dashboard on the loopback interface, 0 for a free one; undefined for none. */
  readonly dashboardPort: number | undefined;
}
