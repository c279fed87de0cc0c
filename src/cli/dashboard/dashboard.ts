import { messageOf } from "../../errors/index.ts";
import type { RankStatus } from "../../status/index.ts";
import { startTimer, type Timer } from "../../time/index.ts";
import { DashboardServer } from "./dashboard-server.ts";
import { JobMonitor, type WatchedAttempt, type WatchedJobInfo } from "./job-monitor.ts";
import { pageFiles } from "./page-files.ts";
import { newToken } from "./token.ts";

export interface DashboardOptions {
  /** 0 for a free one. */
  readonly port: number;
  /** Called with what goes wrong, once for each text. The job goes on. */
  readonly onFault: (text: string) => void;
}

/** An attempt, and how to ask the other nodes. */
export interface DashboardAttempt extends WatchedAttempt {
  /** Asks other nodes what their ranks are doing; undefined if there are none. Never rejects. */
  readonly ask: (() => Promise<readonly RankStatus[]>) | undefined;
}

/** Time between two looks. */
const LOOK_MS = 100;
/** The looks take at most a tenth of the time of a core. */
const PAUSE_PER_COST = 9;
const ASK_MS = 2_000;
/** How long pages have to take the end of the job. */
const LEAVE_MS = 300;

/** The page of `c10d run --dashboard`. It reads what the ranks are doing only while a browser shows it. */
export class Dashboard {
  /** @throws DistError if it cannot listen. */
  static async open(options: DashboardOptions): Promise<Dashboard> {
    return new Dashboard(options, await pageFiles());
  }

  readonly #options: DashboardOptions;
  readonly #server: DashboardServer;
  readonly #faults = new Set<string>();
  #monitor: JobMonitor | undefined;
  #attempt: DashboardAttempt | undefined;
  #viewers = 0;
  #timer: Timer | undefined;
  #askedAt = Number.NEGATIVE_INFINITY;
  #isClosed = false;

  private constructor(options: DashboardOptions, files: Awaited<ReturnType<typeof pageFiles>>) {
    this.#options = options;
    this.#server = new DashboardServer({
      ...{ port: options.port, token: newToken(), files },
      messageFor: (viewer) => {
        const snapshot = this.#monitor?.snapshotFor(viewer);
        return snapshot && JSON.stringify(snapshot);
      },
      onViewers: (count) => {
        this.#viewers = count;
        if (count > 0 && this.#timer === undefined) this.#lookAfter(0);
      },
    });
  }

  /** Address of the page, with the token. */
  get url(): string {
    return this.#server.url;
  }

  /** The job is known. */
  start(job: WatchedJobInfo): void {
    this.#monitor = new JobMonitor(job);
  }

  /** Follows an attempt from now on, until what is returned is disposed of. */
  watch(attempt: DashboardAttempt): Disposable {
    this.#attempt = attempt;
    this.#monitor?.watch(attempt);
    return {
      [Symbol.dispose]: () => {
        this.look();
        this.#attempt = undefined;
      },
    };
  }

  /** Reads what the ranks are doing, also if no browser shows it. */
  look(): void {
    this.#try(() => {
      if (this.#attempt !== undefined) this.#monitor?.look();
    });
  }

  /** The attempt is being ended: what its ranks were doing just before is kept. */
  freeze(): void {
    this.#try(() => {
      if (this.#attempt !== undefined) this.#monitor?.freeze();
    });
  }

  /** Adds to what is said of the attempts that have failed. */
  report(text: string): void {
    this.#monitor?.report(text);
  }

  /** Shows the end of the job to those who have the page open, and closes. Takes 300 ms at most. */
  async end(exitCode: number): Promise<void> {
    this.#isClosed = true;
    this.#timer?.[Symbol.dispose]();
    this.#try(() => {
      this.#monitor?.end(exitCode);
      this.#server.send();
    });
    await this.#server.close(LEAVE_MS);
  }

  /** Closes without a word, if it is still open. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#timer?.[Symbol.dispose]();
    await this.#server.close(0);
  }

  #lookAfter(ms: number): void {
    this.#timer = startTimer(ms, () => {
      this.#timer = undefined;
      if (this.#viewers === 0 || this.#isClosed) return;
      const began = performance.now();
      this.look();
      this.#try(() => this.#server.send());
      this.#ask();
      this.#lookAfter(Math.max(LOOK_MS, PAUSE_PER_COST * (performance.now() - began)));
    });
    this.#timer.unref();
  }

  #ask(): void {
    const attempt = this.#attempt;
    if (attempt?.ask === undefined || performance.now() - this.#askedAt < ASK_MS) return;
    this.#askedAt = performance.now();
    void attempt.ask().then((others) => {
      if (this.#attempt === attempt) this.#monitor?.hear(others);
    });
  }

  /** The job does not depend on the page. */
  #try(act: () => void): void {
    try {
      act();
    } catch (error) {
      const text = messageOf(error);
      if (this.#faults.has(text)) return;
      this.#faults.add(text);
      this.#options.onFault(text);
    }
  }
}
