import type { OutputStream } from "./job-output.ts";

export interface JobOptions {
  /** Ranks on this node, and on each of the others. */
  readonly ranksPerNode: number;
  readonly nnodes: number;
  /** Number of this node, from 0. */
  readonly node: number;
  /** Program and arguments of every rank. */
  readonly command: readonly string[];
  /** Address that the store of the ranks listens on, on node 0, and that they connect to. */
  readonly masterAddr: string;
  /** 0 for a free port, on one node. */
  readonly masterPort: number;
  /** Limit of the whole job in milliseconds; `Infinity` for none. */
  readonly timeoutMs: number;
  /** Time from the request to end to SIGKILL, in milliseconds. */
  readonly graceMs: number;
  /** How often the job is started again after a rank has failed. */
  readonly maxRestarts: number;
  /** How long to wait for the other nodes at the start, in milliseconds. */
  readonly joinTimeoutMs: number;
  /** A node that says nothing for this time is lost, in milliseconds. */
  readonly lostAfterMs: number;
  /** Id of the job that the user has chosen. */
  readonly runId: string | undefined;
  readonly prefix: boolean;
  /** Variables that every rank gets beside the launcher's own. */
  readonly env: Readonly<Record<string, string>>;
  /** Secret of the store; null for PyTorch's open protocol, undefined for a new one for each attempt. */
  readonly secret: string | null | undefined;
  /** Streams of the ranks that go to files. */
  readonly logs: { readonly folder: string; readonly streams: readonly OutputStream[] } | undefined;
  /** Whether what goes to files is printed as well. */
  readonly tee: boolean;
  /** Whether standard output carries events, and what the ranks write goes to standard error. */
  readonly json: boolean;
}
