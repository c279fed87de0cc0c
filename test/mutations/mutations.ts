import {
  type AllToAllOptions,
  type Backend,
  type MessageOptions,
  type OpOptions,
  OpType,
  ReduceOp,
  type ReduceOptions,
  type RootOptions,
  type TensorView,
  tensor,
  Work,
} from "bun-c10d";
import { Delegate } from "./delegate.ts";

/** The same memory from another element on. */
function part(view: TensorView, from: number, to: number): TensorView {
  const { data, dtype } = view;
  if (data === undefined) return view;
  const size = view.length === 0 ? 0 : view.byteLength / view.length;
  const bytes = new Uint8Array(data.buffer, data.byteOffset + from * size, (to - from) * size);
  return { ...view, data: tensor(bytes, { dtype }).data, length: to - from, byteLength: (to - from) * size };
}

/** A copy of a tensor whose last element comes first. */
function rotated(view: TensorView): TensorView {
  const { data, dtype } = view;
  if (data === undefined || view.length < 2) return view;
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const size = view.byteLength / view.length;
  const moved = Buffer.concat([bytes.subarray(-size), bytes.subarray(0, -size)]);
  return { ...view, data: tensor(Uint8Array.from(moved).buffer, { dtype }).data };
}

/** Deliberate bugs. The conformance suite has to find each. */
export const mutations: Readonly<Record<string, new (inner: Backend) => Delegate>> = {
  "AVG is not divided": class extends Delegate {
    override allReduce(view: TensorView, options: ReduceOptions): Work<unknown> {
      return super.allReduce(view, options.op === ReduceOp.AVG ? { ...options, op: ReduceOp.SUM } : options);
    }
  },
  "MIN and MAX are swapped": class extends Delegate {
    override reduceScatterTensor(output: TensorView, input: TensorView, options: ReduceOptions): Work<unknown> {
      const op = options.op === ReduceOp.MIN ? ReduceOp.MAX : options.op === ReduceOp.MAX ? ReduceOp.MIN : options.op;
      return super.reduceScatterTensor(output, input, { ...options, op });
    }
  },
  "broadcast takes the wrong root": class extends Delegate {
    override broadcast(view: TensorView, options: RootOptions): Work<unknown> {
      return super.broadcast(view, { ...options, root: (options.root + 1) % this.size });
    }
  },
  "splits are off by one": class extends Delegate {
    override allToAllSingle(output: TensorView, input: TensorView, options: AllToAllOptions): Work<unknown> {
      return super.allToAllSingle(output, rotated(input), options);
    }
  },
  "the last element is left out": class extends Delegate {
    override allReduce(view: TensorView, options: ReduceOptions): Work<unknown> {
      return super.allReduce(view.length > 300 ? part(view, 0, view.length - 1) : view, options);
    }
  },
  "the element after the tensor is written": class extends Delegate {
    override broadcast(view: TensorView, options: RootOptions): Work<unknown> {
      return super.broadcast(view.length > 0 ? part(view, 0, view.length + 1) : view, options);
    }
  },
  "an op ends before its data is there": class extends Delegate {
    override allReduce(view: TensorView, options: ReduceOptions): Work<unknown> {
      const work = super.allReduce(view, options);
      return Work.completed(view.source, { opType: OpType.ALLREDUCE, seq: work.seq });
    }
  },
  "an error is lost": class extends Delegate {
    override barrier(options: OpOptions): Work<unknown> {
      const work = super.barrier(options);
      return Work.fromPromise(
        work.catch(() => undefined),
        { opType: OpType.BARRIER, seq: work.seq },
      );
    }
  },
  "a barrier does not wait": class extends Delegate {
    override barrier(): Work<unknown> {
      return Work.completed(undefined, { opType: OpType.BARRIER, seq: 1 });
    }
  },
  "tags are not looked at": class extends Delegate {
    override send(view: TensorView, options: MessageOptions): Work<unknown> {
      return super.send(view, { ...options, tag: 0 });
    }
    override recv(view: TensorView, options: MessageOptions): Work<unknown> {
      return super.recv(view, { ...options, tag: 0 });
    }
  },
  "the time-out of the call is not passed on": class extends Delegate {
    override barrier(options: OpOptions): Work<unknown> {
      return super.barrier({ ...options, timeoutMs: Number.POSITIVE_INFINITY });
    }
  },
  "only the first tensor of a list is reduced": class extends Delegate {
    override allReduceCoalesced(tensors: readonly TensorView[], options: ReduceOptions): Work<unknown> {
      const work = super.allReduceCoalesced(tensors.slice(0, 1), options);
      const { owner } = options;
      return Work.fromPromise(
        work.then(() => tensors.map(({ source }) => source)),
        { opType: OpType.ALLREDUCE_COALESCED, seq: work.seq, ...(owner && { owner }) },
      );
    }
  },
  "the result is another object": class extends Delegate {
    override allReduce(view: TensorView, options: ReduceOptions): Work<unknown> {
      return super.allReduce({ ...view, source: view.data ?? view.source }, options);
    }
  },
  "closing a group does not wait for its ops": class extends Delegate {
    override get inFlight(): number {
      return 0;
    }
    override drained(): Promise<void> {
      return Promise.resolve();
    }
  },
  "what is gathered is in the wrong order": class extends Delegate {
    override gather(outputs: readonly TensorView[], input: TensorView, options: RootOptions): Work<unknown> {
      return super.gather(outputs.toReversed(), input, options);
    }
  },
  "scatter gives each rank the part of the next": class extends Delegate {
    override scatter(output: TensorView, inputs: readonly TensorView[], options: RootOptions): Work<unknown> {
      return super.scatter(output, [...inputs.slice(1), ...inputs.slice(0, 1)], options);
    }
  },
  "BAND is done as BOR": class extends Delegate {
    override reduce(view: TensorView, options: ReduceOptions & RootOptions): Work<unknown> {
      return super.reduce(view, options.op === ReduceOp.BAND ? { ...options, op: ReduceOp.BOR } : options);
    }
  },
  "an aborted group goes on waiting": class extends Delegate {
    override abort(): void {}
  },
};
