import type { OpCall } from "../../collectives/op-call.ts";
import { type Hold, holdTensors, releaseHolds, type Stream } from "../../tensor/index.ts";
import type { Mark, OpStreams } from "./op-streams.ts";

/** Calls that are submitted later, together. Their memory is held, and what was in their streams noted. */
export class WaitingCalls<W = unknown> implements Disposable {
  readonly calls: readonly OpCall[];
  readonly works: readonly W[];
  readonly since = performance.now();
  /** Ends them when they have waited for too long. */
  timer: Disposable | undefined;
  readonly #holds: readonly Hold[];
  readonly #marks: Mark[] = [];

  /** @throws if the memory or the stream of a call is gone, or its device fails. */
  constructor(calls: readonly OpCall[], works: readonly W[], streams: OpStreams) {
    this.calls = [...calls];
    this.works = works;
    this.#holds = holdTensors(...calls.flatMap(({ inputs, outputs }) => [inputs, outputs]));
    try {
      for (const stream of streamsOf(calls)) this.#marks.push(streams.mark(stream));
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** The calls with the rest of their time-outs, in a stream that now waits for what was in their own. */
  through(stream: Stream): readonly OpCall[] {
    for (const mark of this.#marks) mark.holdUp(stream);
    const waitedMs = performance.now() - this.since;
    return this.calls.map((call) => ({
      ...call,
      timeoutMs: Math.max(1, call.timeoutMs - waitedMs),
      stream: call.op === "refused" ? call.stream : stream,
    }));
  }

  /** When they have been submitted, or never will be. */
  [Symbol.dispose](): void {
    this.timer?.[Symbol.dispose]();
    this.timer = undefined;
    for (const mark of this.#marks.splice(0)) mark[Symbol.dispose]();
    releaseHolds(this.#holds);
  }
}

/** The streams of calls, each once. */
function streamsOf(calls: readonly OpCall[]): readonly Stream[] {
  const found = new Map<number, Stream>();
  for (const call of calls) {
    if (call.op === "refused") continue;
    const stream = streamOf(call);
    found.set(stream.handle, stream);
  }
  return [...found.values()];
}

/** The stream of a call: by default, the default one of its device. */
export function streamOf({ device, stream }: OpCall): Stream {
  return stream ?? { device, handle: 0 };
}
