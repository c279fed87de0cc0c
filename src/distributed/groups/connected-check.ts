import { DistBackendError, type DistError, ranksText } from "../../errors/index.ts";
import { desyncCheck } from "../../middleware/index.ts";
import { endBackend } from "../../process-group/index.ts";
import type { Backend, BackendContext, BackendPlugin, Middleware } from "../../registry/index.ts";
import { PrefixStore } from "../../store/index.ts";
import type { Store } from "../../store/store.ts";
import { CPU } from "../../tensor/index.ts";

/**
 * How long the ranks may take to connect the second time. They have just connected the first time, so one that does not
 * come is one that does not compare its collectives.
 */
const LIMIT_MS = 15_000;

/** What the helper of a group is made from. */
export interface HelperPlan {
  readonly context: BackendContext;
  readonly plugin: BackendPlugin;
  /** Gloo, which may be the same. */
  readonly gloo: BackendPlugin;
  /** Makes a backend, and closes one that is not for this rank. */
  connect(plugin: BackendPlugin, context: BackendContext): Promise<Backend>;
}

/** The check of a group, and the backend that it uses, to be closed if the group does not take it over. */
export interface ConnectedCheck {
  readonly middleware: Middleware;
  readonly backend: Backend;
}

/**
 * Connects the Gloo group over which ranks compare their collectives at debug level DETAIL, in the place where PyTorch's
 * ranks connect theirs.
 *
 * @throws DistBackendError (`PEER_DEBUG_DETAIL`) naming the ranks that do not connect.
 */
export async function connectDesyncCheck(plan: HelperPlan): Promise<ConnectedCheck> {
  const { context, plugin, gloo } = plan;
  const { rank, groupName } = context;
  const store = new PrefixStore(`pg_wrapper:${groupName}`, context.store);
  const timeoutMs = Math.min(LIMIT_MS, context.timeoutMs);
  const limits = { timeout: context.timeoutMs };
  await store.set(markOf(rank), "1", limits);
  const helper = await plan
    .connect(gloo, {
      ...context,
      store,
      device: CPU,
      groupName: `pg_wrapper:${groupName}`,
      timeoutMs,
      options: gloo === plugin ? context.options : {},
    })
    .catch(async (error: unknown) => {
      throw (await missingError(plan, store, timeoutMs, error)) ?? error;
    });
  try {
    const isOurs = await areSet(store, context, markOf);
    const foreign = ranksOf(context).filter((each) => !isOurs[each]);
    return { backend: helper, middleware: desyncCheck({ backend: helper, foreign }) };
  } catch (error) {
    await endBackend(helper, gloo.name, groupName, "the group could not be made");
    throw error;
  }
}

/** The error that names the ranks which have not come, if that is why the helper could not be connected. */
async function missingError(
  { context, plugin }: HelperPlan,
  store: Store,
  timeoutMs: number,
  cause: unknown,
): Promise<DistError | undefined> {
  const { groupName: group, rank } = context;
  const limits = { timeout: Math.min(timeoutMs, 5_000) };
  const [ours, connecting] = await Promise.all([
    areSet(store, context, markOf, limits),
    // The key under which PyTorch's ranks publish where they listen.
    areSet(store, context, (each) => `0/${each}`, limits),
  ]).catch((): boolean[][] => [[], []]);
  const peers = ranksOf(context).filter((each) => ours?.[each] === false && connecting?.[each] === false);
  if (peers.length === 0) return undefined;
  return new DistBackendError(
    `group "${group}": this rank (${rank}) has TORCH_DISTRIBUTED_DEBUG=DETAIL and compares each collective with the other ` +
      `ranks, but ${ranksText(peers)} did not connect for that within ${timeoutMs} ms of joining the group: set the same ` +
      "level on all ranks",
    { backend: plugin.name, group, rank, peers, timeoutMs, code: "PEER_DEBUG_DETAIL", cause },
  );
}

const ranksOf = ({ size }: BackendContext): number[] => Array.from({ length: size }, (_, rank) => rank);
const markOf = (rank: number): string => `bun-c10d/${rank}`;

/** Whether each rank has set its key. */
async function areSet(
  store: Store,
  context: BackendContext,
  keyOf: (rank: number) => string,
  limits = { timeout: context.timeoutMs },
): Promise<boolean[]> {
  const keys = ranksOf(context).map(keyOf);
  if (await store.check(keys, limits)) return keys.map(() => true);
  return Promise.all(keys.map((key) => store.check([key], limits)));
}
