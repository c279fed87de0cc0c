import { afterAll, describe, expect, test } from "bun:test";
import { requireOptions } from "../../collectives/index.ts";
import { type OptionNames, requireOptionNames } from "../../collectives/option-names.ts";
import { environmentChoice, environmentInteger } from "../../environment/index.ts";
import { InvalidArgumentError } from "../../errors/index.ts";
import type { BackendPlugin } from "../../registry/index.ts";
import { pluginFault } from "../../registry/plugin-shape.ts";
import { isDeviceType } from "../../tensor/index.ts";
import { suiteCases } from "./cases/cases.ts";
import type { SuiteMemory } from "./device-memory.ts";
import { lossCases, sampledLosses, whyNoLoss } from "./losses.ts";
import { type Pass, passesOf, whyNoDeviceIndex } from "./passes.ts";
import { mix } from "./patterns.ts";
import { runLoss } from "./run-loss.ts";
import { type CaseResult, runSuite, type SuiteSpawn } from "./run-suite.ts";
import { deviceSetting, entriesOf, inapplicableIn, type SuiteEntry, settings } from "./settings.ts";
import type { Sweep } from "./suite-rank.ts";

/** Options of {@link testBackend}. */
export interface BackendSuiteOptions {
  /** Numbers of ranks to run with. `[1, 2, 3]` by default. */
  readonly worldSizes?: readonly number[];
  /**
   * Cases that the backend cannot pass, and why; each is printed. A name without ` > …` stands for all cases that begin
   * with it. A case is left out of every setting, unless its name begins with one: `in a sub-group > barrier`.
   */
  readonly skip?: readonly { readonly reason: string; readonly tests: readonly string[] }[];
  /**
   * How the ranks' processes are started. `false` runs the ranks in this thread, `"workers"` each in a Bun Worker, for
   * backends that support it. By default each rank is a process of its own, which loads the plugin from its `module`.
   */
  readonly spawn?: SuiteSpawn;
  /** Why `wait()` cannot block until other ranks have acted. By default it can, unless the ranks share a thread. */
  readonly waitCannotBlock?: string;
  /** Options for the backend. */
  readonly options?: Readonly<Record<string, unknown>>;
  /**
   * Memory of devices other than the CPU. The default group of each rank is then bound to the rank's device, such as
   * `cuda:1`, and tensors are there: in one more run of all cases, or in all settings if the backend takes no host
   * memory.
   */
  readonly memory?: SuiteMemory;
}

/** What is swept: a smoke sweep, or everything with C10D_SWEEP=full. C10D_SEED repeats the sample of another day. */
export function sweepFromEnvironment(): Sweep {
  const full = environmentChoice("C10D_SWEEP", ["smoke", "full"]) === "full";
  const seed = environmentInteger("C10D_SEED") ?? Number(new Date().toISOString().slice(0, 10).replaceAll("-", ""));
  return { full, sizes: [0, 1, 7, 301], large: full ? 250_007 : 20_011, seed };
}

/** A test to be registered. */
interface PlannedCase {
  readonly name: string;
  /** Why it is left out; undefined if it is not. */
  readonly reason: string | undefined;
  run(): Promise<CaseResult | undefined>;
}

/** Number of cases of each further setting in a smoke sweep. */
const SAMPLED_CASES = 5;

/** The cases of every setting of a pass; in a smoke sweep a sample of the settings that need not be whole. */
function sampledEntries({ full, seed }: Sweep, worldSize: number, pass: Pass): readonly SuiteEntry[] {
  return pass.settings.flatMap((setting) => {
    const entries = entriesOf(setting, suiteCases);
    if (full || setting.isWhole) return entries;
    const s = settings.indexOf(setting);
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
 * capability table: what is claimed must work, against exact references; what is not claimed must be rejected. Each
 * case runs on a group of all ranks, in a sub-group, and on groups with middleware around their backend that passes
 * calls on, defers them, or replaces Works; a smoke sweep samples all but the first. With `memory`, all run on a device
 * too. In the cases `losses > …` a rank is killed or stopped, each in a job of its own; a smoke sweep runs two of them.
 *
 * ```ts
 * testBackend(plugin, { worldSizes: [2, 3], skip: [{ reason: "no tags on this wire", tests: ["send and recv > tags tell
 * messages apart"] }] });
 * ```
 */
export function testBackend(plugin: BackendPlugin, options: BackendSuiteOptions = {}): void {
  requireArguments(plugin, options);
  const passes = passesOf(plugin, options.memory);
  const { worldSizes = [1, 2, 3], skip = [], spawn = {} } = options;
  const waitCannotBlock = options.waitCannotBlock ?? (spawn === false ? "the ranks share a thread" : undefined);
  const sweep = sweepFromEnvironment();
  const skipped = skipReasons(skip);
  const limitMs = sweep.full ? 1_200_000 : 100_000;
  const counts = { cases: 0, passed: 0, skipped: 0, checks: 0 };
  if (!sweep.full)
    console.log(`sample: backend ${plugin.name}, size ${sweep.large} with some dtypes, C10D_SEED=${sweep.seed}`);

  const noIndex = whyNoDeviceIndex(plugin, options.memory);
  if (noIndex !== undefined) {
    const title = `backend ${plugin.name}, ${deviceSetting.name} (skipped: ${noIndex})`;
    console.log(`skip: ${title}`);
    test.skip(title, () => {});
  }

  /** Registers a test for each case, and prints why others are skipped. */
  const register = (worldSize: number, planned: readonly PlannedCase[]): void => {
    for (const reason of new Set(planned.map((each) => each.reason))) {
      if (reason === undefined) continue;
      const names = planned.filter((each) => each.reason === reason).map(({ name }) => name);
      console.log(`skip: backend ${plugin.name}, ${worldSize} ranks, ${reason}: ${names.join("; ")}`);
    }
    for (const { name, reason, run } of planned) {
      if (reason !== undefined) {
        counts.skipped++;
        test.skip(`${name} (skipped: ${reason})`, () => {});
        continue;
      }
      counts.cases++;
      test(
        name,
        async () => {
          const result = await run();
          expect(result?.failures ?? ["it was not run"]).toEqual([]);
          expect(result?.checks).toBeGreaterThan(0);
          counts.passed++;
          counts.checks += result?.checks ?? 0;
        },
        limitMs,
      );
    }
  };
  // Each of them is a job of its own.
  const sampledSize = worldSizes.find((size) => size > 1) ?? worldSizes[0];

  for (const worldSize of worldSizes) {
    describe(`backend ${plugin.name}, ${worldSize} ${worldSize === 1 ? "rank" : "ranks"}`, () => {
      for (const pass of passes) {
        const terms = { capabilities: plugin.capabilities, worldSize, waitCannotBlock, ...pass.terms };
        const entries = sampledEntries(sweep, worldSize, pass);
        const reasons = entries.map((entry) => {
          return skipped.get(entry.name) ?? skipped.get(entry.case.name) ?? inapplicableIn(entry, terms);
        });
        const cases = entries.filter((_, i) => reasons[i] === undefined).map(({ name }) => name);
        let results: Promise<Map<string, CaseResult>> | undefined;
        const run = (): Promise<Map<string, CaseResult>> => {
          const order = { cases, sweep, canBlock: waitCannotBlock === undefined, options: options.options ?? {} };
          results ??= runSuite({ plugin, worldSize, memory: pass.memory, order, spawn }).then(
            (list) => new Map(list.map((each) => [each.name, each])),
          );
          return results;
        };
        register(
          worldSize,
          entries.map(({ name }, i) => ({ name, reason: reasons[i], run: async () => (await run()).get(name) })),
        );
      }
      const losses = sweep.full ? lossCases : worldSize === sampledSize ? sampledLosses(spawn) : [];
      const terms = { capabilities: plugin.capabilities, worldSize, waitCannotBlock, spawn };
      const memory = passes[0]?.memory;
      register(
        worldSize,
        losses.map((lost) => ({
          name: lost.name,
          reason: skipped.get(lost.name) ?? whyNoLoss(lost, { ...terms, isLoadable: plugin.module !== undefined }),
          run: async () => {
            if (spawn === false) return undefined;
            return runLoss({ plugin, worldSize, lost, memory, options: options.options ?? {}, spawn });
          },
        })),
      );
      if (worldSize !== worldSizes.at(-1)) return;
      afterAll(() => {
        const where = spawn === false ? "in one thread" : spawn === "workers" ? "in Workers" : "in processes";
        const memory = passes.map((each) => each.memory?.device ?? "host").join(" and ");
        const { cases, passed, skipped, checks } = counts;
        const extent = `${cases} cases with ${worldSizes.join(", ")} ranks ${where}, tensors in ${memory} memory, ${skipped} left out`;
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
  memory: true,
};

/** Wrong options must not result in a suite without tests, or with other numbers of ranks. */
function requireArguments(plugin: unknown, options: BackendSuiteOptions): void {
  const fault = pluginFault(plugin);
  if (fault !== undefined) throw new InvalidArgumentError(`testBackend: ${fault.message}`, { argument: fault.field });
  requireOptions("testBackend", options);
  requireOptionNames("testBackend", options, optionNames);
  const { worldSizes, skip, memory } = options;
  const isCount = (size: unknown): boolean => Number.isInteger(size) && (size as number) > 0;
  if (worldSizes !== undefined && !(isList(worldSizes) && worldSizes.length > 0 && worldSizes.every(isCount))) {
    throw new InvalidArgumentError("testBackend: worldSizes must be a non-empty list of positive integers", {
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
  if (memory !== undefined && !isMemory(memory)) {
    throw new InvalidArgumentError(
      "testBackend: memory must be { device, open }, with a device that is not the CPU and a function that opens its memory on a rank",
      { argument: "memory" },
    );
  }
}

/** Whether a value is a {@link SuiteMemory}. */
function isMemory(memory: unknown): boolean {
  if (typeof memory !== "object" || memory === null) return false;
  const { device, open } = memory as Partial<SuiteMemory>;
  return isDeviceType(device) && device !== "cpu" && typeof open === "function";
}

const isList = (value: unknown): boolean => Array.isArray(value);

/** Reason by name of the case. */
function skipReasons(skip: NonNullable<BackendSuiteOptions["skip"]>): Map<string, string> {
  const reasons = new Map<string, string>();
  const entries = [...settings.flatMap((setting) => entriesOf(setting, suiteCases)), ...lossCases];
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
