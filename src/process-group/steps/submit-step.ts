import { type CallTerms, type Operation, opCall, opTypeOf } from "../../collectives/index.ts";
import type { TensorView } from "../../tensor/index.ts";
import { AllOf, type Work } from "../../work/index.ts";
import type { Pipeline } from "../pipeline/pipeline.ts";
import { callsFor } from "./composed-calls.ts";

/** Submits one step of a multi-step op, within the time left for the whole op. */
export type SubmitStep = (
  op: Operation,
  inputs: readonly TensorView[],
  outputs: readonly TensorView[],
  terms?: CallTerms,
) => Work<void>;

/** Time before a step that does not count, so that errors name the limit that the user has set. */
const SETUP_MS = 10;

/** @param timeoutMs Time-out of all steps together, starting now. */
export function stepsWithin(pipeline: Pipeline, timeoutMs: number): SubmitStep {
  const { clock } = pipeline;
  const began = clock.now();
  return (op, inputs, outputs, terms) => {
    const spentMs = clock.now() - began;
    // Whole milliseconds, which errors name.
    const leftMs = spentMs < SETUP_MS ? timeoutMs : Math.max(1, Math.ceil(timeoutMs - spentMs));
    const call = opCall(op, pipeline.device, inputs, outputs, leftMs, terms);
    const calls = callsFor(call, pipeline.table, pipeline.size);
    if (calls.length === 1 && calls[0] !== undefined) return pipeline.submitOne(calls[0]);
    return new AllOf(pipeline.submit(calls), { opType: opTypeOf(call) });
  };
}
