import type { PostLocalSGDOptions, PowerSGDOptions } from "../../src/ddp/index.ts";

/** A training that the ranks of a job run, with one hook. */
export interface HookCase {
  readonly name: string;
  readonly hook:
    | "fp16"
    | "bf16"
    | "fp16Wrapped"
    | "perTensor"
    | "perChannel"
    | "PowerSGD"
    | "batchedPowerSGD"
    | "fp16PowerSGD"
    | "bf16PowerSGD"
    | "postLocalSGD";
  readonly options?: Omit<PowerSGDOptions, "group"> | PostLocalSGDOptions;
  readonly dtype?: "float32" | "float64";
  /** Options of a model averager, in Python's names; parameters are then compared too. */
  readonly averager?: { readonly period: number; readonly warmup_steps: number };
  readonly steps: number;
  /**
   * By how much an element may differ from PyTorch's, for gradients between -1 and 1. Without it, all bits are the same.
   */
  readonly tolerance?: number;
}

/** What every rank of a job does. */
export interface HookPlan {
  /** Of the parameters of the model. */
  readonly shapes: readonly (readonly number[])[];
  readonly cases: readonly HookCase[];
}

/** What a rank reports. */
export interface HookReport {
  readonly rank: number;
  readonly kind: "Bun" | "Python";
  readonly results: readonly {
    readonly name: string;
    /** For each step the gradients, and with an averager then the parameters: float64 in base64. */
    readonly steps: readonly string[];
    /** Compression rate, and elements before and after. */
    readonly stats: readonly number[] | null;
  }[];
}

/** The gradient that a rank computes. */
export function givenGradient(length: number, rank: number, index: number, step: number): Float64Array {
  return Float64Array.from({ length }, (_, i) => {
    return ((i * i * 31 + i * 7919 + rank * 613 + step * 211 + index * 97) % 2003) / 1001.5 - 1;
  });
}

export function packed(lists: readonly ArrayLike<number>[]): string {
  const all = Float64Array.from(lists.flatMap((list) => Array.from(list)));
  return Buffer.from(all.buffer).toString("base64");
}

export function unpacked(text: string): Float64Array {
  return new Float64Array(new Uint8Array(Buffer.from(text, "base64")).buffer);
}
