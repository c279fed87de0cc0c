import * as dist from "bun-c10d";
import { CLASSES, type Digits, epochOrder, PIXELS, shardOf } from "./dataset.ts";
import { Mlp } from "./mlp.ts";
import type { Peers } from "./peers.ts";
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

export interface EpochResult extends Score {
  /** Loss of each global batch, before its step. */
  readonly stepLosses: readonly number[];
  /** Time of this rank in gradients and parameter updates. */
  readonly computeMs: number;
  /** Time of this rank in all-reduce, including waiting for slower ranks. */
  readonly communicationMs: number;
}

const MOMENTUM = 0.9;

/**
 * Data-parallel training: each rank computes the gradient of its shard of a batch, and all ranks step by the average.
 */
export class Trainer {
  readonly parameters: Float32Array;
  readonly stepsPerEpoch: number;

  readonly #peers: Peers;
  readonly #digits: Digits;
  readonly #options: TrainingOptions;
  readonly #mlp: Mlp;
  readonly #sgd: Sgd;
  /** The data of an all-reduce: the gradients, then the loss and the hits of the batch. */
  readonly #wire: Float32Array;
  readonly #gradients: Float32Array;

  constructor(peers: Peers, digits: Digits, options: TrainingOptions) {
    this.#peers = peers;
    this.#digits = digits;
    this.#options = options;
    this.#mlp = new Mlp({ inputs: PIXELS, hidden: options.hidden, outputs: CLASSES });
    const count = this.#mlp.parameterCount;
    this.#sgd = new Sgd(count, MOMENTUM);
    this.#wire = dist.empty("float32", count + 2);
    this.#gradients = this.#wire.subarray(0, count);
    this.parameters = this.#mlp.initialParameters(options.seed);
    this.stepsPerEpoch = Math.ceil(digits.labels.length / options.batch);
  }

  /** One pass over the training images; `onStep` receives each step and the mean loss of its batch. */
  async runEpoch(epoch: number, onStep: (step: number, loss: number) => void = () => {}): Promise<EpochResult> {
    const { batch: batchSize, seed } = this.#options;
    const { rank, worldSize } = this.#peers;
    const count = this.#mlp.parameterCount;
    const images = this.#digits.labels.length;
    const order = epochOrder(images, seed, epoch);
    const stepLosses: number[] = [];
    let hits = 0;
    let lossSum = 0;
    let computeMs = 0;
    let communicationMs = 0;

    for (let start = 0; start < images; start += batchSize) {
      const batch = order.subarray(start, start + batchSize);
      const scale = worldSize / batch.length;

      const began = performance.now();
      const shard = shardOf(batch, rank, worldSize);
      const local = this.#mlp.gradient(this.parameters, this.#gradients, this.#digits, shard, scale);
      this.#wire[count] = local.loss * scale;
      this.#wire[count + 1] = local.correct * scale;

      const computed = performance.now();
      await this.#peers.average(this.#wire);

      const averaged = performance.now();
      this.#sgd.step(this.parameters, this.#gradients, this.#learningRate(epoch, stepLosses.length));
      const loss = this.#wire[count] ?? Number.NaN;
      lossSum += loss * batch.length;
      hits += (this.#wire[count + 1] ?? 0) * batch.length;
      stepLosses.push(loss);
      computeMs += computed - began + (performance.now() - averaged);
      communicationMs += averaged - computed;
      onStep(stepLosses.length, loss);
    }
    return { loss: lossSum / images, accuracy: hits / images, stepLosses, computeMs, communicationMs };
  }

  /** Score of the current parameters; each rank evaluates its shard of the images. */
  async evaluate(digits: Digits): Promise<Score> {
    const images = digits.labels.length;
    const all = Uint32Array.from({ length: images }, (_, index) => index);
    const shard = shardOf(all, this.#peers.rank, this.#peers.worldSize);
    const local = this.#mlp.evaluate(this.parameters, digits, shard);
    const sums = Float64Array.of(local.loss, local.correct);
    await this.#peers.sum(sums);
    return { loss: (sums[0] ?? Number.NaN) / images, accuracy: (sums[1] ?? 0) / images };
  }

  #learningRate(epoch: number, step: number): number {
    const done = epoch * this.stepsPerEpoch + step;
    return this.#options.learningRate * (1 - done / (this.#options.epochs * this.stepsPerEpoch));
  }
}
