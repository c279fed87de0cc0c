import * as dist from "bun-c10d";
import type { BackwardPass } from "bun-c10d/ddp";
import { CLASSES, classOf, FEATURES, point } from "./points.ts";

const HIDDEN = 16;

/** Linear → tanh → linear, with the names and shapes of `torch.nn.Sequential`: weights are [outputs][inputs]. */
export class Network {
  readonly parameters = [
    { name: "0.weight", shape: [HIDDEN, FEATURES], data: dist.empty("float32", HIDDEN * FEATURES) },
    { name: "0.bias", shape: [HIDDEN], data: dist.empty("float32", HIDDEN) },
    { name: "2.weight", shape: [CLASSES, HIDDEN], data: dist.empty("float32", CLASSES * HIDDEN) },
    { name: "2.bias", shape: [CLASSES], data: dist.empty("float32", CLASSES) },
  ] as const;

  /** Starts with small numbers in no particular order; those of rank 0 are used. */
  constructor() {
    for (const { data, shape } of this.parameters) {
      const [, inputs = 1] = shape;
      for (let i = 0; i < data.length; i++) data[i] = Math.sin(1 + 7 * i) / Math.sqrt(inputs);
    }
  }

  /** Mean cross-entropy of points. Each gradient is handed to the pass as soon as it is complete. */
  loss(points: readonly number[], pass: BackwardPass): number {
    const [w1, b1, w2, b2] = this.parameters.map(({ data }) => data) as Float32Array[];
    const [dw1, db1, dw2, db2] = this.parameters.map(({ data }) => new Float32Array(data.length)) as Float32Array[];
    if (!w1 || !b1 || !w2 || !b2 || !dw1 || !db1 || !dw2 || !db2) throw new Error("the network has four parameters");
    const scale = 1 / points.length;
    const inputs = points.map(point);
    const hidden = inputs.map((x) => Float32Array.from(b1, (bias, j) => Math.tanh(bias + dot(w1, j * FEATURES, x))));
    let loss = 0;
    // The second layer: its gradients are complete first.
    const errors = hidden.map((h, n) => {
      const scores = Array.from(b2, (bias, k) => bias + dot(w2, k * HIDDEN, h));
      const label = classOf(inputs[n] as Float32Array);
      const top = Math.max(...scores);
      const total = scores.reduce((sum, score) => sum + Math.exp(score - top), 0);
      loss += scale * (Math.log(total) + top - (scores[label] as number));
      const error = scores.map((score, k) => scale * (Math.exp(score - top) / total - (k === label ? 1 : 0)));
      for (const [k, each] of error.entries()) {
        db2[k] = (db2[k] as number) + each;
        addScaled(dw2, k * HIDDEN, h, each);
      }
      return error;
    });
    pass.ready("2.bias", db2);
    pass.ready("2.weight", dw2);
    for (const [n, error] of errors.entries()) {
      for (const [j, h] of (hidden[n] as Float32Array).entries()) {
        const back = error.reduce((sum, each, k) => sum + each * (w2[k * HIDDEN + j] as number), 0) * (1 - h * h);
        db1[j] = (db1[j] as number) + back;
        addScaled(dw1, j * FEATURES, inputs[n] as Float32Array, back);
      }
    }
    pass.ready("0.bias", db1);
    pass.ready("0.weight", dw1);
    return loss;
  }
}

function dot(matrix: Float32Array, start: number, vector: Float32Array): number {
  return vector.reduce((sum, value, i) => sum + value * (matrix[start + i] as number), 0);
}

function addScaled(matrix: Float32Array, start: number, vector: Float32Array, factor: number): void {
  for (const [i, value] of vector.entries()) matrix[start + i] = (matrix[start + i] as number) + value * factor;
}
