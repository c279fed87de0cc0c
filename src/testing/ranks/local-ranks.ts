import type { DependencyContainer } from "tsyringe";
import { requireOptions } from "../../collectives/index.ts";
import { type OptionNames, requireOptionNames } from "../../collectives/option-names.ts";
import { DistContext, withContext } from "../../distributed/dist-context.ts";
import { destroyProcessGroup, type InitOptions, initProcessGroup } from "../../distributed/index.ts";
import {
  DistError,
  DistTimeoutError,
  describe,
  InvalidArgumentError,
  messageOf,
  ranksText,
} from "../../errors/index.ts";
import type { ProcessGroup } from "../../process-group/index.ts";
import {
  type BackendPlugin,
  CLOCK,
  type Clock,
  createContainer,
  registryOf,
  requireContainer,
} from "../../registry/index.ts";
import { HashStore, type Store } from "../../store/index.ts";
import { startTimer, type Timeout, timeoutMs } from "../../time/index.ts";
import { whereInOps } from "../watch/hang.ts";
import { readOpLog, shareOpLog } from "../watch/op-log.ts";
import { watchContext } from "../watch/watch-rank.ts";

/** What the body of a rank receives. */
export interface LocalRank {
  readonly rank: number;
  readonly worldSize: number;
  /** The default group, which `dist.*` uses inside the body too. Throws while there is none. */
  readonly group: ProcessGroup;
  /** The store that all the ranks share. */
  readonly store: Store;
}

/** Options of {@link localRanks}. */
export interface LocalRanksOptions {
  /** Limit of the whole run, and default limit of ops. 30 s by default. */
  readonly timeout?: Timeout;
  /** A backend whose ranks can share a thread. The `fake` backend by default. */
  readonly backend?: BackendPlugin;
  /**
   * `false` leaves `initProcessGroup()` to the body, which passes it the store, rank and world size of its argument:
   * for applications that initialize by themselves. Default is `true`.
   */
  readonly init?: boolean;
  /** Options for the backend, e.g. `{ seed: 7 }`. */
  readonly options?: Readonly<Record<string, unknown>>;
  /** The clock for limits of ops, e.g. a `ManualClock`; the run is limited in real time. The system's by default. */
  readonly clock?: Clock;
  /** Container with the middleware, logger and so on of the default groups; `backend` and `clock` replace its own. */
  readonly container?: DependencyContainer;
}

const optionNames: OptionNames<LocalRanksOptions> = {
  timeout: true,
  backend: true,
  init: true,
  options: true,
  clock: true,
  container: true,
};

/** How a rank failed. */
export interface RankFailure {
  readonly rank: number;
  readonly error: unknown;
}

/** Thrown by {@link localRanks}: the failures of all ranks, the earliest first. */
export class LocalRanksError extends AggregateError {
  override readonly name = "LocalRanksError";
  readonly failures: readonly RankFailure[];

  constructor(worldSize: number, failures: readonly RankFailure[]) {
    const ranks = failures.map(({ rank }) => rank).sort((a, b) => a - b);
    const list = failures.map(({ rank, error }) => `  rank ${rank}: ${messageOf(error)}${adviceFor(error)}`);
    super(
      failures.map(({ error }) => error),
      `${ranksText(ranks)} of ${worldSize} failed:\n${list.join("\n")}`,
      { cause: failures[0]?.error },
    );
    this.failures = failures;
  }
}

/** What to do about a body that repeats what `localRanks` did. */
function adviceFor(error: unknown): string {
  if (!(error instanceof DistError) || error.code !== "ALREADY_INITIALIZED") return "";
  return " localRanks() has initialized it already; where the body calls initProcessGroup(), pass { init: false } to localRanks()";
}

const DEFAULT_LIMIT_MS = 30_000;

/**
 * Runs `body` as `n` ranks in this thread, each with a default group of its own, so that `dist.*` inside the body acts
 * as that rank. The ranks exchange real data, by the `fake` backend. When a rank throws, its group is aborted, so that
 * the others do not wait for it.
 *
 * @returns What the bodies returned, in the order of ranks.
 * @throws LocalRanksError naming every rank that failed, or that was still running when the time was up, and in which
 *   op.
 */
export async function localRanks<T>(
  n: number,
  body: (rank: LocalRank) => T | PromiseLike<T>,
  options: LocalRanksOptions = {},
): Promise<T[]> {
  if (!Number.isInteger(n) || n < 1) {
    throw new InvalidArgumentError(`localRanks: n must be a positive integer, got ${n}`, { argument: "n" });
  }
  if (typeof body !== "function") {
    throw new InvalidArgumentError(
      `localRanks: body must be the function that each rank runs, got ${describe(body)}; files are run by workerRanks() and spawnRanks()`,
      { argument: "body" },
    );
  }
  requireOptions("localRanks", options);
  requireOptionNames("localRanks", options, optionNames);
  const limitMs = timeoutMs(options.timeout, DEFAULT_LIMIT_MS);
  if (options.container !== undefined) requireContainer("localRanks", options.container);
  const store = new HashStore();
  // A child container, so that registrations of this run do not stay.
  const container = (options.container ?? createContainer()).createChildContainer();
  if (options.backend !== undefined) registryOf(container).register(options.backend, { replace: true });
  if (options.clock !== undefined) container.register(CLOCK, { useValue: options.clock });
  const meeting: InitOptions = {
    backend: options.backend?.name ?? "fake",
    container,
    store,
    worldSize: n,
    timeout: limitMs,
    ...(options.options && { options: options.options }),
  };
  const ranks = Array.from({ length: n }, () => ({ context: new DistContext(), log: shareOpLog() }));
  for (const { context, log } of ranks) watchContext(context, log);
  const failures: RankFailure[] = [];
  const ended = new Set<number>();

  async function run(rank: number, context: DistContext): Promise<T | undefined> {
    try {
      if (options.init !== false) await initProcessGroup({ ...meeting, rank });
      const value = await body({
        rank,
        worldSize: n,
        store,
        get group() {
          return context.require().group;
        },
      });
      if (context.world !== undefined) await destroyProcessGroup();
      return value;
    } catch (error) {
      failures.push({ rank, error });
      context.world?.group.abort(`its function has failed: ${messageOf(error)}`);
      await context.world?.group.close();
      return undefined;
    } finally {
      ended.add(rank);
    }
  }

  const { promise: timeUp, resolve } = Promise.withResolvers<undefined>();
  const timer = startTimer(limitMs, () => resolve(undefined));
  const all = Promise.all(ranks.map(({ context }, rank) => withContext(context, () => run(rank, context))));
  const values = await Promise.race([all, timeUp]);
  timer[Symbol.dispose]();
  if (values === undefined) {
    const late = [...ranks.entries()].filter(([rank]) => !ended.has(rank));
    for (const [rank, { log }] of late) {
      const where = whereInOps(readOpLog(log), performance.timeOrigin + performance.now());
      const message = `localRanks: rank ${rank} was still running after ${limitMs} ms: ${where}`;
      failures.push({ rank, error: new DistTimeoutError(message, { code: "RANK_HUNG", rank, timeoutMs: limitMs }) });
    }
    for (const [rank, { context }] of late) context.world?.group.abort(`rank ${rank} was still running`);
  }
  await store.close();
  if (failures.length > 0 || values === undefined) throw new LocalRanksError(n, [...failures]);
  return values as T[];
}
