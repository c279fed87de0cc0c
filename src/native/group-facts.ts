import type { Pointer } from "bun:ffi";
import { CapabilitiesLayout, CapabilityFlag, StatsLayout } from "./abi.generated.ts";
import type { ShimSymbols } from "./shim-symbols.ts";

/** Counters of one native group since its creation; `pinned` is the number of ops that keep their buffers now. */
export interface NativeStats {
  readonly submitted: number;
  readonly completed: number;
  readonly failed: number;
  readonly drivenByWait: number;
  readonly pinned: number;
  readonly wakes: number;
}

/** Bits by the numbers of ops, dtypes and reduce ops; 0 if the shim leaves it to the plugin's table. */
export interface NativeCapabilities {
  readonly ops: bigint;
  readonly dtypes: bigint;
  readonly reduceOps: bigint;
  /** Bits by the numbers of `Service`; 0 for none. */
  readonly services: bigint;
  /** Whether `send` and `recv` are ordered with the collectives. */
  readonly messagesInOrder: boolean;
  /** Whether groups can be split from it. */
  readonly canSplit: boolean;
}

/** What a group can do, as far as its shim reports it. */
export function capabilitiesOf(symbols: ShimSymbols, handle: Pointer): NativeCapabilities {
  const words = new BigUint64Array(new ArrayBuffer(CapabilitiesLayout.SIZE));
  symbols.c10d_group_capabilities(handle, words, CapabilitiesLayout.SIZE);
  const at = (offset: number): bigint => words[offset / 8] ?? 0n;
  return {
    ops: at(CapabilitiesLayout.ops),
    dtypes: at(CapabilitiesLayout.dtypes),
    reduceOps: at(CapabilitiesLayout.reduceOps),
    services: at(CapabilitiesLayout.services),
    canSplit: (at(CapabilitiesLayout.flags) & BigInt(CapabilityFlag.SPLIT)) !== 0n,
    messagesInOrder: (at(CapabilitiesLayout.flags) & BigInt(CapabilityFlag.OVERTAKE_COLLECTIVES)) === 0n,
  };
}

/** The counters of a group; all 0 if it is closed. */
export function statsOf(symbols: ShimSymbols, handle: Pointer | undefined): NativeStats {
  const words = new BigUint64Array(new ArrayBuffer(StatsLayout.SIZE));
  if (handle !== undefined) symbols.c10d_group_stats(handle, words, StatsLayout.SIZE);
  const at = (offset: number): number => Number(words[offset / 8] ?? 0n);
  return {
    submitted: at(StatsLayout.submitted),
    completed: at(StatsLayout.completed),
    failed: at(StatsLayout.failed),
    drivenByWait: at(StatsLayout.drivenByWait),
    pinned: at(StatsLayout.pinned),
    wakes: at(StatsLayout.wakes),
  };
}
