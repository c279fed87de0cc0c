import type { RankStatus } from "../../status/index.ts";
import type { Verdict } from "./verdict.ts";

/** The nodes of a job, as the launcher of one of them sees them. */
export interface Nodes {
  /** Number of this node, from 0. */
  readonly node: number;
  readonly count: number;
  /** Id of the job, the same on all nodes. */
  readonly runId: string;
  /**
   * The port of the store where the ranks of an attempt meet, on the host of the rendezvous. `open` starts that store;
   * it is called on one node, when all nodes have stopped the previous attempt.
   */
  port(attempt: number, open: () => Promise<number>, signal: AbortSignal): Promise<number>;
  /** Resolves when another node ends the attempt or is lost. */
  verdict(attempt: number, signal: AbortSignal): Promise<Verdict>;
  /** Announces to the others why the attempt ends; resolves to the first verdict. Never rejects. */
  announce(attempt: number, verdict: Verdict): Promise<Verdict>;
  /** Reports that the ranks here have succeeded; resolves when those of all nodes have. */
  finished(attempt: number, signal: AbortSignal): Promise<void>;
  /** Reports that no rank of the attempt is running here any more. Never rejects. */
  stopped(attempt: number): Promise<void>;
  /** Answers the other nodes that ask what the ranks here are doing, until it is aborted. Never rejects. */
  answerStatus(attempt: number, statuses: () => readonly RankStatus[], signal: AbortSignal): Promise<void>;
  /**
   * Leaves what the ranks here are doing for the node that asks next, since they are going to be ended. Never rejects.
   */
  leaveStatus(attempt: number, statuses: readonly RankStatus[]): Promise<void>;
  /** What the ranks of the other nodes are doing, as far as these answer within a second. Never rejects. */
  askStatus(attempt: number): Promise<readonly RankStatus[]>;
  /** Leaves the job; the node that hosts its store first waits for the others, for a limited time. Never rejects. */
  leave(): Promise<void>;
}

/** The only node of a job on a single host. */
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
  async answerStatus(): Promise<void> {}
  async leaveStatus(): Promise<void> {}

  askStatus(): Promise<readonly RankStatus[]> {
    return Promise.resolve([]);
  }

  async leave(): Promise<void> {}
}
