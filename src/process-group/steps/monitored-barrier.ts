import { NO_TENSORS, OpType } from "../../collectives/index.ts";
import { type TensorView, viewTensor } from "../../tensor/index.ts";
import { AllOf, asError, type Steps } from "../../work/index.ts";
import type { SubmitStep } from "./submit-step.ts";

/** Tag of its messages. UCC takes none that is larger. */
const TAG = 16_375;

export interface MonitoredBarrierTerms {
  readonly rank: number;
  readonly size: number;
  readonly submit: SubmitStep;
  /** The error on rank 0 if these ranks have not reached the barrier. */
  readonly missed: (ranks: readonly number[], cause: unknown) => unknown;
}

/**
 * A monitored barrier of messages, for backends that have none: all ranks send a byte to rank 0, which answers when it
 * has received them all.
 */
export function* monitoredBarrier({ rank, size, submit, missed }: MonitoredBarrierTerms): Steps<void> {
  const send = (peer: number) => submit("send", [byte()], NO_TENSORS, { peer, tag: TAG });
  const receive = (peer: number) => submit("recv", NO_TENSORS, [byte()], { peer, tag: TAG });
  if (rank !== 0) {
    yield send(0);
    yield receive(0);
    return;
  }
  const others = Array.from({ length: size - 1 }, (_, i) => i + 1);
  const arrivals = others.map(receive);
  try {
    yield new AllOf(arrivals, { opType: OpType.BARRIER });
  } catch (error) {
    const missing = others.filter((_, i) => arrivals[i]?.isSuccess() !== true);
    throw missed(missing, asError(error, { opType: OpType.BARRIER }));
  }
  yield new AllOf(others.map(send), { opType: OpType.BARRIER });
}

const byte = (): TensorView => viewTensor(new Uint8Array(1));
