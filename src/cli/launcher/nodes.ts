import type { Verdict } from "./verdict.ts";

/** The nodes of a job, as the launcher of one of them sees them. */
export interface Nodes {
  /** Number of this node, from 0. */
  readonly node: number;
  readonly count: number;
  /** Id of the job, the same on all nodes. */
  readonly runId: string;
  /**
   * The port that the ranks of an attempt meet at, on the host of the rendezvous. `open` makes a store there; it is
   * called on one node, when all nodes have stopped the attempt before.
   */
  port(attempt: number, open: () => Promise<number>, signal: AbortSignal): Promise<number>;
  /** Resolves when another node has ended the attempt, or is lost. */
  verdict(attempt: number, signal: AbortSignal): Promise<Verdict>;
  /** Tells the others why the attempt ends; resolves to the verdict that came first. Never rejects. */
  announce(attempt: number, verdict: Verdict): Promise<Verdict>;
  /** Tells that the ranks here have done their work; resolves when those of all nodes have. */
  finished(attempt: number, signal: AbortSignal): Promise<void>;
  /** Tells that no rank of the attempt runs here any more. Never rejects. */
  stopped(attempt: number): Promise<void>;
  /** Leaves the job; the node that hosts its store waits, bounded, until the others have left. Never rejects. */
  leave(): Promise<void>;
}

/** The nodes of a job on this host alone. */
export class LoneNode implements Nodes {
  readonly node = 0;
  readonly count = 1;
  readonly runId: string;

  constructor(runId: string) {
    this.runId = runId;
  }

  port(_attempt: number, open: () => Promise<number>): Promise<number> {
    return open();
  }

  verdict(): Promise<Verdict> {
    return new Promise(() => {});
  }

  announce(_attempt: number, verdict: Verdict): Promise<Verdict> {
    return Promise.resolve(verdict);
  }

  async finished(): Promise<void> {}
  async stopped(): Promise<void> {}
  async leave(): Promise<void> {}
}
