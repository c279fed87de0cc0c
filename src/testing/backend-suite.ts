import { afterAll, describe, expect, test } from "bun:test";
import { requireOptions } from "../collectives/index.ts";
import { InvalidArgumentError } from "../errors/index.ts";
import type { BackendPlugin } from "../registry/index.ts";
import { type OptionNames, requireOptionNames } from "../registry/option-names.ts";
import { pluginFault } from "../registry/plugin-shape.ts";
import { suiteCases } from "./backend-suite/cases.ts";
import { mix } from "./backend-suite/patterns.ts";
import { type CaseResult, runSuite, type SuiteSpawn } from "./backend-suite/run-suite.ts";
import { entriesOf, inapplicableIn, plainSetting, type SuiteEntry, settings } from "./backend-suite/settings.ts";
import type { Sweep } from "./backend-suite/suite-rank.ts";

/** What {@link testBackend} takes beside the plugin. */
export interface BackendSuiteOptions {
  /** Numbers of ranks to run with. `[1, 2, 3]` by default. */
  readonly worldSizes?: readonly number[];
  /**
   * Cases that the backend cannot pass, and why; each is printed. A name without ` > …` stands for all that begin so. A
   * case is left out of every setting, unless its name begins with one: `in a sub-group > barrier`.
   */
  readonly skip?: readonly { readonly reason: string; readonly tests: readonly string[] }[];
  /**
   * How the ranks' processes are started. `false` runs the ranks in this thread, `"workers"` each in a Bun Worker, for
   * backends that can do that. By default each rank is a process of its own, which loads the plugin from its `module`.
   */
  readonly spawn?: SuiteSpawn;
  /** Why `wait()` cannot block until other ranks have acted. By default it can, unless the ranks share a thread. */
  readonly waitCannotBlock?: string;
  /** Options for the backend. */
  readonly options?: Readonly<Record<string, unknown>>;
}

/** What is swept: a smoke sweep, or everything with C10D_SWEEP=full. C10D_SEED repeats the sample of another day. */
export function sweepFromEnvironment(): Sweep {
  const { C10D_SWEEP: extent = "smoke", C10D_SEED: given } = process.env;
  if (extent !== "smoke" && extent !== "full") throw wrongVariable("C10D_SWEEP", '"smoke" or "full"', extent);
  const seed = Number(given ?? new Date().toISOString().slice(0, 10).replaceAll("-", ""));
  if (!Number.isInteger(seed)) throw wrongVariable("C10D_SEED", "an integer", given);
  const full = extent === "full";
  return { full, sizes: [0, 1, 7, 301], large: full ? 250_007 : 20_011, seed };
}

function wrongVariable(name: string, expected: string, given: string | undefined): InvalidArgumentError {
  return new InvalidArgumentError(`${name} must be ${expected}, got "${given}"`, { argument: name });
}

/** Cases of each further setting in a smoke sweep. */
const SAMPLED_CASES = 5;

/** The cases of every setting: all of them in a full sweep, otherwise all of the plain one and a sample of each other one. */
function sampledEntries({ full, seed }: Sweep, worldSize: number): readonly SuiteEntry[] {
  return settings.flatMap((setting, s) => {
    const entries = entriesOf(setting, suiteCases);
    if (full || setting === plainSetting) return entries;
    const order = entries.map((entry, i) => ({ entry, draw: mix(seed, worldSize, s, i) }));
    const drawn = new Set(
      order
        .sort((a, b) => a.draw - b.draw)
        .slice(0, SAMPLED_CASES)
        .map(({ entry }) => entry),
    );
    return entries.filter((entry) => drawn.has(entry));
  });
}

/**
 * The conformance suite: registers, with `bun:test`, a test for each case and number of ranks. It reads the plugin's
 * capability table: what is claimed must work, against exact references; what is not claimed must be rejected. Each case
 * runs on a group of all ranks, in a sub-group, and on groups with middleware around their backend that passes calls on,
 * defers them, or replaces Works; of those others a smoke sweep takes a sample.
 *
 * ```ts
 * testBackend(plugin, { worldSizes: [2, 3], skip: [{ reason: "no tags on this wire", tests: ["send and recv > tags tell messages apart"] }] });
 * ```
 */
export function testBackend(plugin: BackendPlugin, options: BackendSuiteOptions = {}): void {
  requireArguments(plugin, options);
  const { worldSizes = [1, 2, 3], skip = [], spawn = {} } = options;
  const waitCannotBlock = options.waitCannotBlock ?? (spawn === false ? "the ranks share a thread" : undefined);
  const sweep = sweepFromEnvironment();
  const skipped = skipReasons(skip);
  const limitMs = sweep.full ? 1_200_000 : 100_000;
  const counts = { cases: 0, passed: 0, skipped: 0, checks: 0 };
  if (!sweep.full)
    console.log(`sample: backend ${plugin.name}, size ${sweep.large} with some dtypes, C10D_SEED=${sweep.seed}`);

  const noIndex = `on a device index of its own (skipped: ${whyNoDeviceIndex(plugin)})`;
  console.log(`skip: backend ${plugin.name}, ${noIndex}`);
  test.skip(`backend ${plugin.name} > ${noIndex}`, () => {});

  for (const worldSize of worldSizes) {
    describe(`backend ${plugin.name}, ${worldSize} ${worldSize === 1 ? "rank" : "ranks"}`, () => {
      const terms = { capabilities: plugin.capabilities, worldSize, waitCannotBlock };
      const entries = sampledEntries(sweep, worldSize);
      const reasons = entries.map((entry) => {
        return skipped.get(entry.name) ?? skipped.get(entry.case.name) ?? inapplicableIn(entry, terms);
      });
      for (const reason of new Set(reasons)) {
        if (reason === undefined) continue;
        const names = entries.filter((_, i) => reasons[i] === reason).map(({ name }) => name);
        console.log(`skip: backend ${plugin.name}, ${worldSize} ranks, ${reason}: ${names.join("; ")}`);
      }
      const cases = entries.filter((_, i) => reasons[i] === undefined).map(({ name }) => name);
      let results: Promise<Map<string, CaseResult>> | undefined;
      const run = (): Promise<Map<string, CaseResult>> => {
        const order = { cases, sweep, canBlock: waitCannotBlock === undefined, options: options.options ?? {} };
        results ??= runSuite({ plugin, worldSize, order, spawn }).then(
          (list) => new Map(list.map((each) => [each.name, each])),
        );
        return results;
      };
      for (const [i, { name }] of entries.entries()) {
        const reason = reasons[i];
        if (reason !== undefined) {
          counts.skipped++;
          test.skip(`${name} (skipped: ${reason})`, () => {});
          continue;
        }
        counts.cases++;
        test(
          name,
          async () => {
            const result = (await run()).get(name);
            expect(result?.failures ?? ["it was not run"]).toEqual([]);
            expect(result?.checks).toBeGreaterThan(0);
            counts.passed++;
            counts.checks += result?.checks ?? 0;
          },
          limitMs,
        );
      }
      if (worldSize !== worldSizes.at(-1)) return;
      afterAll(() => {
        const where = spawn === false ? "in one thread" : spawn === "workers" ? "in Workers" : "in processes";
        const { cases, passed, skipped, checks } = counts;
        const extent = `${cases} cases with ${worldSizes.join(", ")} ranks ${where}, ${skipped} left out`;
        console.log(`suite: backend ${plugin.name}: ${extent}; ${passed} passed, ${checks} checks`);
      });
    });
  }
}

const optionNames: OptionNames<BackendSuiteOptions> = {
  worldSizes: true,
  skip: true,
  spawn: true,
  waitCannotBlock: true,
  options: true,
};

/** What is wrong here must not pass for a suite without a test, or for one of other ranks. */
function requireArguments(plugin: unknown, options: BackendSuiteOptions): void {
  const fault = pluginFault(plugin);
  if (fault !== undefined) throw new InvalidArgumentError(`testBackend: ${fault.message}`, { argument: fault.field });
  requireOptions("testBackend", options);
  requireOptionNames("testBackend", options, optionNames);
  const { worldSizes, skip } = options;
  const isCount = (size: unknown): boolean => Number.isInteger(size) && (size as number) > 0;
  if (worldSizes !== undefined && !(isList(worldSizes) && worldSizes.length > 0 && worldSizes.every(isCount))) {
    throw new InvalidArgumentError("testBackend: worldSizes must be a list of numbers of ranks, of at least one", {
      argument: "worldSizes",
    });
  }
  if (skip !== undefined && !(isList(skip) && skip.every((each) => isList(each?.tests)))) {
    throw new InvalidArgumentError(
      "testBackend: skip must be a list of { reason, tests }, with names of cases in tests",
      {
        argument: "skip",
      },
    );
  }
}

const isList = (value: unknown): boolean => Array.isArray(value);

/** Why no case runs on a group that is bound to a device with an index. */
function whyNoDeviceIndex({ devices }: BackendPlugin): string {
  const others = devices.filter((device) => device !== "cpu");
  return others.length === 0
    ? "its tensors are in host memory, which is one device"
    : `the tensors of the suite are in host memory, none in that of ${others.join(" and ")}`;
}

/** Reason by name of the case. */
function skipReasons(skip: NonNullable<BackendSuiteOptions["skip"]>): Map<string, string> {
  const reasons = new Map<string, string>();
  const entries = settings.flatMap((setting) => entriesOf(setting, suiteCases));
  for (const { reason, tests } of skip) {
    for (const title of tests) {
      const found = entries.filter(({ name }) => name === title || name.startsWith(`${title} > `));
      if (found.length === 0) {
        throw new InvalidArgumentError(`testBackend: skip names "${title}", but no case is called that`, {
          argument: "skip",
        });
      }
      for (const { name } of found) reasons.set(name, reason);
    }
  }
  return reasons;
}
