import { isMessage, opTypeOf } from "../../collectives/index.ts";
import type { Capabilities, Middleware, Submit } from "../../registry/index.ts";
import { failureOf, sourceOf, Work } from "../../work/index.ts";
import { inapplicable, type SuiteCase, type SuiteTerms } from "./suite-case.ts";

/** What kind of group the cases run on. */
export interface Setting {
  /** Unique; empty for a group of all ranks with nothing around it. */
  readonly name: string;
  /** Global ranks of the members; all by default. */
  members?(worldSize: number): readonly number[];
  /** Middleware around the backend. */
  readonly wrap?: Middleware["create"];
  /**
   * Whether a smoke sweep runs all cases of this setting, and a full one all sizes. Default is `false`: what the
   * setting changes does not depend on these.
   */
  readonly isWhole?: boolean;
  /** Why `wait()` cannot block in this setting. */
  readonly waitCannotBlock?: string;
  /** What is claimed in this setting; by default what the backend claims. */
  claims?(capabilities: Capabilities): Capabilities;
}

const isOfMessages = (calls: Parameters<Submit>[0]): boolean => calls.some((call) => isMessage(opTypeOf(call)));

/** Holds collectives for a turn of the event loop; a batch with messages is not held, and first submits those. */
const defer: Middleware["create"] = (context) => (next) => {
  const held: { calls: Parameters<Submit>[0]; ends: PromiseWithResolvers<void>[] }[] = [];
  const release = (): void => {
    for (const { calls, ends } of held.splice(0)) {
      const works = next(calls);
      for (const [i, { resolve, reject }] of ends.entries()) works[i]?.then(resolve, reject);
    }
  };
  context.onAbort(release);
  return (calls) => {
    if (isOfMessages(calls)) {
      release();
      return next(calls);
    }
    if (held.length === 0) setImmediate(release);
    const ends = calls.map(() => Promise.withResolvers<void>());
    held.push({ calls, ends });
    return calls.map((call, i) => Work.fromPromise(ends[i]?.promise ?? Promise.resolve(), { opType: opTypeOf(call) }));
  };
};

/** Ends as the backend's Work does, and blocks on it. */
class Replacement extends Work<void> {
  readonly #actual: Work<void>;

  constructor(actual: Work<void>) {
    super(actual);
    this.#actual = actual;
    actual.whenEnded(() => this.#end());
  }

  #end(): void {
    this.cameFrom(sourceOf(this.#actual));
    this.settle(failureOf(this.#actual));
  }

  override synchronize(): void {
    this.#actual.synchronize();
  }

  protected override block(limitMs: number): void {
    this.blockOn(this.#actual, performance.now() + limitMs, limitMs);
    this.#end();
  }
}

/** A group of all ranks without middleware. */
export const plainSetting: Setting = { name: "", isWhole: true };

/** Like the plain one, with tensors in the memory of a device, for a backend that also takes host memory. */
export const deviceSetting: Setting = { name: "on a device index of its own", isWhole: true };

/** All settings of a run, in order, wherever its tensors are. */
export const placelessSettings: readonly Setting[] = [
  plainSetting,
  {
    name: "in a sub-group",
    // Without rank 0, so that ranks in the group differ from global ones.
    members: (worldSize) => Array.from({ length: worldSize - 1 }, (_, i) => i + 1),
  },
  { name: "under a middleware that passes on", wrap: () => (next) => (calls) => next([...calls]) },
  {
    name: "under a middleware that defers",
    wrap: defer,
    waitCannotBlock: "the middleware submits from the event loop",
    // The number of an op is known when it is submitted.
    claims: (capabilities) => ({ ...capabilities, sequenceNumbers: false }),
  },
  {
    name: "under a middleware that replaces Works",
    wrap: () => (next) => (calls) => next(calls).map((work) => new Replacement(work)),
  },
];

/** All settings. */
export const settings: readonly Setting[] = [...placelessSettings, deviceSetting];

/** Description of a group of this setting, by which {@link suiteMiddleware} recognises it. */
export const descriptionOf = ({ name }: Setting): string => `suite ${name}`;

/** Wraps each group of the suite as its setting says, and leaves other groups alone. */
export const suiteMiddleware: Middleware = {
  name: "suite",
  create(context) {
    const setting = settings.find((each) => descriptionOf(each) === context.groupDescription);
    return setting?.wrap?.(context) ?? ((next) => next);
  },
};

/** A case in a setting. */
export interface SuiteEntry {
  /** Unique, e.g. `in a sub-group > allReduce > lists of tensors`; the name of the case itself in the plain setting. */
  readonly name: string;
  readonly case: SuiteCase;
  readonly setting: Setting;
}

/** All cases in a setting. */
export function entriesOf(setting: Setting, cases: readonly SuiteCase[]): SuiteEntry[] {
  const prefix = setting.name === "" ? "" : `${setting.name} > `;
  return cases.map((each) => ({ name: `${prefix}${each.name}`, case: each, setting }));
}

/** Why a case cannot run in a setting; undefined if it can. */
export function inapplicableIn(
  entry: SuiteEntry,
  { capabilities, worldSize, waitCannotBlock, ...memory }: SuiteTerms,
): string | undefined {
  const { case: each, setting } = entry;
  const members = setting.members?.(worldSize).length ?? worldSize;
  if (members === 0) return `${setting.name}: needs 2 ranks`;
  if (setting.members !== undefined && each.makesGroups) return `${setting.name}: it makes groups of all ranks`;
  return inapplicable(each, {
    ...memory,
    capabilities: setting.claims?.(capabilities) ?? capabilities,
    worldSize: members,
    waitCannotBlock: waitCannotBlock ?? setting.waitCannotBlock,
  });
}
