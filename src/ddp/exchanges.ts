import { ReduceOp } from "../collectives/index.ts";
import type { ProcessGroup } from "../process-group/index.ts";
import { CPU, type Device, type DType, SparseTensor, type TensorLike } from "../tensor/index.ts";
import { type LibraryTimes, libraryTimesOf } from "../work/index.ts";
import type { Bucket } from "./bucket.ts";
import { computesOnHost, hasAverage, isOnDevice, ranksThatAverage } from "./device-limits.ts";
import { GradBucket } from "./grad-bucket.ts";
import type { CopyStream } from "./memory/copy-stream.ts";
import type { Gradient } from "./parameter.ts";
import type { RegisteredHook } from "./registered-hook.ts";
import { sumOfRows } from "./sparse-gradient.ts";
import { startedNow } from "./started-now.ts";

/** What is exchanged. */
interface Exchanged {
  readonly dtype: DType;
  readonly device: Device;
  readonly stream: CopyStream | undefined;
  readonly buffer: Gradient;
}

/**
 * The exchanges of one iteration after the other. They are issued in the order in which they are begun, even if some have
 * to wait: for a hook that is not pipelined, or for the count of ranks by which gradients are divided.
 */
export class Exchanges {
  group: ProcessGroup;
  /** Exchanges buckets in place of the all-reduce. */
  hook: RegisteredHook | undefined;
  /** For parameters with sparse gradients, the rows that ranks may have in this iteration. */
  sparseRows: ReadonlyMap<string, BigInt64Array> = new Map();
  /**
   * Whether all ranks leave the division to the library, by `ReduceOp.AVG`. PyTorch's divide before they sum, which takes
   * time of the thread that computes.
   */
  averaging = false;
  /** What the last group averages in host memory. */
  #onHost: { readonly group: ProcessGroup | undefined; readonly dtypes: ReadonlySet<DType> } = {
    group: undefined,
    dtypes: new Set(),
  };
  /** By how much gradients are divided; `undefined` while ranks are still counted. */
  #divisor: number | undefined;
  #counting: Promise<number> | undefined;
  /** Settles when the exchanges that had to be deferred so far have ended, or have begun if they are pipelined. */
  #chain: Promise<unknown> | undefined;
  /** The comparison of used parameters. */
  usedMap: PromiseLike<unknown> | undefined;

  constructor(group: ProcessGroup) {
    this.group = group;
  }

  /** Gradients are divided by a number that is still being counted; `undefined` for the world size. */
  divideBy(count: Promise<number> | undefined): void {
    this.#counting = count;
  }

  /**
   * By how much gradients are divided on their way into a bucket: not at all if a hook or the library does that, `undefined`
   * if it is not known yet.
   */
  divisorOf(bucket: Bucket): number | undefined {
    if (this.hook !== undefined || (this.#counting === undefined && this.#averages(bucket))) return 1;
    return this.#counting === undefined ? this.group.size : this.#divisor;
  }

  /** @throws UnsupportedOperationError for a bucket on a device whose gradients would be divided by the host. */
  requireDivision(buckets: readonly Bucket[]): void {
    if (this.hook !== undefined) return;
    for (const bucket of buckets) {
      const [parameter] = bucket.parameters;
      if (parameter === undefined || !isOnDevice(bucket)) continue;
      if (this.#counting !== undefined || !this.averaging) {
        throw computesOnHost("averaging gradients", parameter, `only the library can divide them, ${ranksThatAverage}`);
      }
      if (!this.#averages(bucket)) {
        const remedy = `the backend has no average of ${bucket.dtype}; use another dtype, a hook, or host memory`;
        throw computesOnHost("averaging gradients", parameter, remedy);
      }
    }
  }

  /** Begins the exchange of a bucket, or places it behind what must end first. */
  begin(bucket: Bucket, count: number): void {
    const { hook } = this;
    if (this.#chain === undefined && this.divisorOf(bucket) !== undefined) {
      if (hook === undefined) {
        bucket.exchange = this.#sumOf(bucket);
        return;
      }
      if (hook.pipelined) {
        bucket.exchange = handled(this.#hooked(hook, bucket, count));
        return;
      }
    }
    const run = async (): Promise<Gradient> => {
      if (hook !== undefined) return this.#hooked(hook, bucket, count);
      this.#divisor ??= await this.#counting;
      bucket.divide(this.#divisor ?? this.group.size);
      return await this.#sumOf(bucket);
    };
    const exchange = this.#chain === undefined ? run() : this.#chain.then(run);
    this.#chain = handled(exchange);
    bucket.exchange = exchange;
  }

  /** Begins the comparison of used parameters: the sum of what ranks have used. */
  beginUsedMap(map: Int32Array): void {
    const run = () => this.group.allReduce(map);
    this.usedMap = this.#chain === undefined ? run() : handled(this.#chain.then(run));
  }

  /** Exchanges a bucket by the hook, or without one by a sum. */
  async run(bucket: GradBucket): Promise<Gradient> {
    const { hook } = this;
    return hook === undefined ? await this.sum(bucket.buffer(), bucket.copyStream) : await this.#called(hook, bucket);
  }

  /**
   * Exchanges zeros in place of the gradients of a rank that has joined, by the op of the other ranks.
   * @param usesWorldSize Whether they divide by the world size, although some have joined.
   */
  async standIn(zeros: GradBucket, usesWorldSize: boolean): Promise<void> {
    const { dtype, device, copyStream: stream } = zeros;
    const exchanged = { dtype, device, stream, buffer: zeros.buffer() };
    if (this.hook === undefined && usesWorldSize && this.#averages(exchanged)) await this.#average(exchanged);
    else await this.run(zeros);
  }

  /**
   * Sums a tensor over all ranks.
   * @param stream On a device, that in which it is there.
   */
  sum(buffer: Gradient, stream?: CopyStream): PromiseLike<Gradient> {
    if (buffer instanceof SparseTensor) return this.group.allReduce(buffer);
    return startedNow(within(stream, () => this.group.allReduce(buffer)));
  }

  #average({ buffer, stream }: Exchanged): PromiseLike<Gradient> {
    const { group } = this;
    return startedNow(within(stream, () => group.allReduce(buffer as TensorLike, { op: ReduceOp.AVG })));
  }

  /**
   * Whether the library divides the sum of a bucket. In host memory not in 16 bits, where sums would overflow that averages
   * would not; on devices the library divides before it sums.
   */
  #averages({ dtype, device, buffer }: Exchanged): boolean {
    if (!this.averaging || buffer instanceof SparseTensor) return false;
    return device.type === "cpu" ? this.#hostAverages.has(dtype) : hasAverage(this.group, device, dtype);
  }

  /** dtypes that the library averages in host memory. Asked for each gradient. */
  get #hostAverages(): ReadonlySet<DType> {
    if (this.#onHost.group !== this.group) {
      const dtypes = (["float32", "float64"] as const).filter((dtype) => hasAverage(this.group, CPU, dtype));
      this.#onHost = { group: this.group, dtypes: new Set(dtypes) };
    }
    return this.#onHost.dtypes;
  }

  /** A bucket as hooks see it, one of `count`. */
  gradBucket({ index, dtype, device, stream, parameters, buffer }: Bucket, count: number): GradBucket {
    const { group, averaging: averages } = this;
    return new GradBucket({ group, index, count, dtype, device, stream, parameters, buffer, averages });
  }

  /** When the library exchanged buckets, as far as it is known. */
  libraryTimes(buckets: readonly Bucket[]): LibraryTimes[] {
    return buckets.flatMap(({ exchange }) => (exchange && libraryTimesOf(exchange)) ?? []);
  }

  /** Ends an iteration. */
  reset(): void {
    this.#divisor = undefined;
    this.#counting = undefined;
    this.#chain = undefined;
    this.usedMap = undefined;
    this.sparseRows = new Map();
  }

  /** Calls a hook; what it gives is copied into the bucket at once, since it may use one tensor for all buckets. */
  async #hooked(hook: RegisteredHook, bucket: Bucket, count: number): Promise<Gradient> {
    bucket.receive(await this.#called(hook, this.gradBucket(bucket, count)));
    return bucket.buffer;
  }

  async #called(hook: RegisteredHook, bucket: GradBucket): Promise<Gradient> {
    const { copyStream: stream } = bucket;
    // What a hook does after its first `await` is in another stream.
    if (stream !== undefined && !hook.pipelined) await stream.done();
    return await within(stream, () => hook.call(bucket));
  }

  #sumOf(bucket: Bucket): PromiseLike<Gradient> {
    const { buffer, parameters, stream } = bucket;
    if (this.hook === undefined && this.#counting === undefined && this.#averages(bucket)) return this.#average(bucket);
    const [parameter] = parameters;
    const rows = this.sparseRows.get(parameter?.name ?? "");
    if (parameter === undefined || rows === undefined || !(buffer instanceof SparseTensor)) {
      return this.sum(buffer, stream);
    }
    return handled(sumOfRows(parameter, buffer, rows, (values) => this.group.allReduce(values)));
  }
}

/** Calls a function whose ops are in a stream, on a device. */
function within<T>(stream: CopyStream | undefined, body: () => T): T {
  return stream === undefined ? body() : stream.run(body);
}

/** Marks a promise as handled: its failure is reported where it is awaited. */
function handled<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {});
  return promise;
}
