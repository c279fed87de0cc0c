import type { ProcessGroup } from "bun-c10d";
import { CLASSES, type Digits, epochOrder, PIXELS, shardOf } from "./dataset.ts";
import type { GradientBuffers, Gradients } from "./dense.ts";
import { Mlp } from "./mlp.ts";
import { Sgd } from "./sgd.ts";

export interface TrainingOptions {
  readonly epochs: number;
  /** Images in one global batch, over all ranks. */
  readonly batch: number;
  /** Learning rate of the first step; it falls linearly to 0 over the training. */
  readonly learningRate: number;
  readonly seed: number;
  /** Neurons in the hidden layer. */
  readonly hidden: number;
}

/** Means over all images of all ranks. */
export interface Score {
  readonly loss: number;
  /** 0 … 1. */
  readonly accuracy: number;
}

export interface EpochScore extends Score {
  /** Loss of each global batch, before its step. */
  readonly stepLosses: readonly number[];
}

/** The part of `DistributedDataParallel` that training needs: a step replaces gradients by their averages over all ranks. */
export interface Replica extends GradientBuffers {
  step<T>(body: (pass: Gradients) => T | PromiseLike<T>): Promise<T>;
}

const MOMENTUM = 0.9;

/** The network for the digits, with initial weights that depend only on the seed. */
export function newMlp({ hidden, seed }: TrainingOptions): Mlp {
  return new Mlp(PIXELS, hidden, CLASSES, seed);
}

/** Data-parallel training: each rank computes the gradients of its shard of a batch, and all step by the average. */
export class Trainer {
  readonly stepsPerEpoch: number;
  readonly #mlp: Mlp;
  readonly #replica: Replica;
  readonly #digits: Digits;
  readonly #options: TrainingOptions;
  readonly #group: ProcessGroup | undefined;
  readonly #sgd: Sgd;

  /** @param group The ranks that share each batch; without one, this process trains alone. */
  constructor(mlp: Mlp, replica: Replica, digits: Digits, options: TrainingOptions, group?: ProcessGroup) {
    this.#mlp = mlp;
    this.#replica = replica;
    this.#digits = digits;
    this.#options = options;
    this.#group = group;
    this.#sgd = new Sgd(mlp.parameters, MOMENTUM);
    this.stepsPerEpoch = Math.ceil(digits.labels.length / options.batch);
  }

  /** One pass over the training images; `onStep` receives each step and an estimate of its loss from this rank's shard. */
  async runEpoch(epoch: number, onStep: (step: number, loss: number) => void = () => {}): Promise<EpochScore> {
    const { batch: batchSize, seed } = this.#options;
    const order = epochOrder(this.#digits.labels.length, seed, epoch);
    const buffer = (name: string) => this.#replica.gradientBuffer(name) as Float32Array;
    const stepLosses: number[] = [];
    const sums = { loss: 0, correct: 0 };

    for (let step = 0; step < this.stepsPerEpoch; step++) {
      const batch = order.subarray(step * batchSize, (step + 1) * batchSize);
      const scale = (this.#group?.size ?? 1) / batch.length;
      const { loss, correct } = await this.#replica.step((pass) =>
        this.#mlp.backward(this.#digits, this.#shardOf(batch), scale, this.#replica, pass),
      );
      this.#sgd.step(buffer, this.#learningRate(epoch, step));
      stepLosses.push(loss / batch.length);
      sums.loss += loss;
      sums.correct += correct;
      onStep(step + 1, loss * scale);
    }
    // No step needs the losses of the other ranks, so those of all steps are added up at once.
    const [loss = 0, hits = 0, ...losses] = await this.#sum(Float64Array.of(sums.loss, sums.correct, ...stepLosses));
    return { ...scoreOf(loss, hits, this.#digits), stepLosses: losses };
  }

  /** Score of the current parameters; each rank evaluates its shard of the images. */
  async evaluate(digits: Digits): Promise<Score> {
    const own = this.#mlp.evaluate(digits, this.#shardOf(Uint32Array.from(digits.labels.keys())));
    const [loss = 0, hits = 0] = await this.#sum(Float64Array.of(own.loss, own.correct));
    return scoreOf(loss, hits, digits);
  }

  #shardOf(batch: Uint32Array): Uint32Array {
    return this.#group === undefined ? batch : shardOf(batch, this.#group.rank, this.#group.size);
  }

  async #sum(values: Float64Array): Promise<Float64Array> {
    await this.#group?.allReduce(values);
    return values;
  }

  #learningRate(epoch: number, step: number): number {
    const done = epoch * this.stepsPerEpoch + step;
    return this.#options.learningRate * (1 - done / (this.#options.epochs * this.stepsPerEpoch));
  }
}

function scoreOf(loss: number, hits: number, { labels }: Digits): Score {
  return { loss: loss / labels.length, accuracy: hits / labels.length };
}
