import { type OptionNames, requireOptionNames } from "../collectives/option-names.ts";
import { describe, InvalidArgumentError } from "../errors/index.ts";
import type { DumpOptions } from "../recorder/index.ts";
import { defaultContainer, recorderOf } from "../registry/index.ts";
import { currentContext } from "./dist-context.ts";

/** Options of {@link dumpTrace}. */
export interface DumpTraceOptions extends DumpOptions {
  /** `json` by default; `pickle` is the form that PyTorch's `torchfrtrace` reads. */
  readonly format?: "json" | "pickle";
}

const optionNames: OptionNames<DumpTraceOptions> = {
  includeCollectives: true,
  includeStackTraces: true,
  onlyActive: true,
  format: true,
};

/**
 * What the flight recorder has of this rank: its groups, and its last ops with sizes, states, times and call sites, in
 * the form of PyTorch's dumps (version 2.10). `c10d trace` reads both formats, docs/trace.md describes them.
 *
 * ```ts
 * await Bun.write(`trace_rank_${dist.getRank()}.json`, dist.dumpTrace());
 * ```
 *
 * @returns JSON as text, or a pickle.
 * @throws InvalidArgumentError for unknown options.
 *
 * c10d: `_dump_fr_trace_json`, `_dump_fr_trace`.
 */
export function dumpTrace(options: DumpTraceOptions & { readonly format: "pickle" }): Uint8Array<ArrayBuffer>;
export function dumpTrace(options?: DumpTraceOptions & { readonly format?: "json" }): string;
export function dumpTrace(options: DumpTraceOptions = {}): string | Uint8Array<ArrayBuffer> {
  requireOptionNames("dumpTrace", options, optionNames);
  const { format = "json", ...dump } = options;
  const { world } = currentContext();
  const recorder = recorderOf(world?.container ?? defaultContainer());
  const own = { ...dump, ...(world !== undefined && { globalRank: world.group.rank }) };
  if (format === "pickle") return recorder.dumpPickle(own);
  if (format === "json") return JSON.stringify(recorder.dump(own));
  throw new InvalidArgumentError(`dumpTrace: format must be "json" or "pickle", got ${describe(format)}`, {
    argument: "format",
  });
}
