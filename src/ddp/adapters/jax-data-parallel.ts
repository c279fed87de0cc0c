import { describe, InvalidArgumentError } from "../../errors/index.ts";
import { broadcastCoalesced } from "../broadcast-coalesced.ts";
import type { DataParallelOptions } from "../ddp-options.ts";
import { DistributedDataParallel } from "../distributed-data-parallel.ts";
import type { TrainedParameter } from "../parameter.ts";
import type { ArrayValues, Jax, JaxArray } from "./jax-interface.ts";
import { type Leaf, leavesOf, mapTree } from "./pytree.ts";

/**
 * Options of {@link dataParallel}: those of `DistributedDataParallel` that do not depend on how arrays are held.
 * Gradients are always collected in the buckets, and jax-js copies them out of these.
 */
export type JaxOptions = Omit<DataParallelOptions, "gradientAsBucketView" | "broadcastBuffers">;

const BROADCAST_BYTES = 250 * 2 ** 20;
const trainable: readonly string[] = ["float32", "float64", "float16"];

/**
 * Trains parameters of jax-js on many ranks: compares them with those of the other ranks, and gives all ranks those of
 * rank 0, as `params`.
 *
 * ```ts
 * const ddp = await dataParallel(jax, initial);
 * const step = jax.jit(jax.valueAndGrad(loss));
 * let params = ddp.params;
 * for (const { images, labels } of batches) {
 *   const [value, local] = step(jax.tree.ref(params), images, labels);
 *   const grads = await ddp.average(local);
 *   params = jax.tree.map((p: np.Array, g: np.Array) => p.sub(g.mul(0.1)), params, grads);
 * }
 * ```
 *
 * @param jax The namespace of `@jax-js/jax`.
 * @param params A pytree: arrays of float32, float64 or float16 in lists and plain objects. Used up, as by a function of
 *   jax-js.
 * @throws InvalidArgumentError for arrays of other dtypes, for two whose paths have one name, and on ranks whose
 *   parameters differ (`PARAMETERS_DIFFER`).
 */
export async function dataParallel<Params>(
  jax: Jax,
  params: Params,
  options: JaxOptions = {},
): Promise<JaxDataParallel<Params>> {
  if (typeof jax?.numpy?.array !== "function" || typeof jax.defaultDevice !== "function") {
    throw new InvalidArgumentError(`jax must be the namespace of @jax-js/jax, got ${describe(jax)}`, {
      argument: "jax",
    });
  }
  const leaves = leavesOf(params, "params");
  const integer = leaves.find(({ array }) => !trainable.includes(array.dtype));
  if (integer !== undefined) {
    throw new InvalidArgumentError(
      `params: ${integer.name} is ${integer.array.dtype}, but only floating point arrays have gradients: keep it in another tree, and copy that by broadcast()`,
      { argument: "params" },
    );
  }
  const copies = await Promise.all(leaves.map(copyOf));
  const parameters = leaves.map((leaf, i) => new HeldParameter(leaf, copies[i] as ArrayValues));
  const ddp = await DistributedDataParallel.create(
    { name: "params", parameters },
    { ...options, broadcastBuffers: false, gradientAsBucketView: true },
  );
  let place = 0;
  const synchronised = mapTree(params, "params", ({ array }) => {
    const values = parameters[place++]?.release();
    return values === undefined ? array : replaced(jax, array, values);
  });
  return new JaxDataParallel(jax, ddp, synchronised);
}

/**
 * Gradients of jax-js, averaged over all ranks. Made by {@link dataParallel}.
 *
 * jax-js does not show its memory: each gradient is copied out of it (once on `cpu`, twice on `wasm`), then into a bucket,
 * and its average from there into a new array.
 */
export class JaxDataParallel<Params> {
  /** What exchanges the gradients: for comm hooks and figures. Holds no parameters, so it cannot `join` or `noSync`. */
  readonly ddp: DistributedDataParallel;
  /** The parameters of rank 0, as they were at construction. They belong to the caller, to be used up once. */
  readonly params: Params;
  readonly #jax: Jax;

  /** @internal */
  constructor(jax: Jax, ddp: DistributedDataParallel, params: Params) {
    this.#jax = jax;
    this.ddp = ddp;
    this.params = params;
  }

  /**
   * Averages gradients over all ranks. All ranks must call it equally often.
   *
   * @param grads A pytree of the structure of the parameters, as from `jax.grad` or `jax.valueAndGrad`. Used up.
   * @returns The averages, of the same structure, on the devices of `grads`.
   * @throws InvalidArgumentError for another structure, other shapes or dtypes; DistError if the exchange fails.
   *
   * JAX: `jax.lax.pmean`.
   */
  async average<Grads>(grads: Grads): Promise<Grads> {
    const leaves = this.#matched(grads);
    const { ddp } = this;
    if (!ddp.requireBackwardGradSync) {
      throw new InvalidArgumentError("average() must not be called in noSync(): add gradients up by jax.numpy", {
        argument: "grads",
      });
    }
    await ddp.forward();
    const pass = ddp.backward();
    const places = leaves.map(placeOf);
    // Buckets begin with the last layers; while one is exchanged, the next arrays are computed and read.
    for (const { name, array } of leaves.toReversed()) pass.ready(name, (await array.data()) as ArrayValues);
    await pass.finish();
    let index = 0;
    return mapTree(grads, "grads", ({ name }) => {
      return arrayOf(this.#jax, places[index++] as Place, ddp.gradient(name) as ArrayValues);
    });
  }

  /**
   * Copies a pytree of rank 0 to all ranks, such as frozen weights or running averages. All ranks must call it with
   * arrays of the same shapes and dtypes: of any dtype that jax-js has.
   *
   * @param tree Used up.
   */
  async broadcast<Tree>(tree: Tree): Promise<Tree> {
    const { group } = this.ddp;
    const leaves = leavesOf(tree, "tree");
    const values = await Promise.all(leaves.map(copyOf));
    await broadcastCoalesced(group, values, BROADCAST_BYTES);
    if (group.rank === 0) return tree;
    let index = 0;
    return mapTree(tree, "tree", ({ array }) => replaced(this.#jax, array, values[index++] as ArrayValues));
  }

  #matched(grads: unknown): Leaf[] {
    const leaves = leavesOf(grads, "grads");
    const { parameters } = this.ddp;
    const names = new Set(leaves.map(({ name }) => name));
    const missing = parameters.find(({ name }) => !names.has(name));
    if (missing !== undefined || leaves.length !== parameters.length) {
      throw new InvalidArgumentError(
        `grads must have the structure of the parameters: ${missing === undefined ? `there are ${leaves.length} arrays for ${parameters.length} parameters` : `there is no ${missing.name}`}`,
        { argument: "grads" },
      );
    }
    const byName = new Map(parameters.map((parameter) => [parameter.name, parameter]));
    for (const { name, array } of leaves) {
      const parameter = byName.get(name);
      if (parameter?.dtype === array.dtype && String(parameter.shape) === String(array.shape)) continue;
      throw new InvalidArgumentError(
        `grads: ${name} is ${array.dtype} of shape [${array.shape.join(", ")}], its parameter is ${parameter?.dtype} of shape [${parameter?.shape.join(", ")}]`,
        { argument: "grads" },
      );
    }
    return leaves;
  }
}

/** A parameter whose values are held until all ranks have those of rank 0. */
class HeldParameter implements TrainedParameter {
  readonly name: string;
  readonly shape: readonly number[];
  #values: ArrayValues | undefined;
  #hasReceived = false;

  constructor({ name, array }: Leaf, values: ArrayValues) {
    this.name = name;
    this.shape = [...array.shape];
    this.#values = values;
  }

  get data(): ArrayValues {
    if (this.#values !== undefined) return this.#values;
    throw new InvalidArgumentError(
      `parameters of jax-js are values that only the training loop has, so ${this.name} cannot be copied after a join()`,
    );
  }

  received(): void {
    this.#hasReceived = true;
  }

  /** Forgets the values; returns them if they came from rank 0. */
  release(): ArrayValues | undefined {
    const values = this.#hasReceived ? this.#values : undefined;
    this.#values = undefined;
    return values;
  }
}

/** What an array is like, which cannot be asked once it is used up. */
interface Place {
  readonly shape: readonly number[];
  readonly dtype: string;
  readonly device: string;
}

function placeOf({ array }: { readonly array: JaxArray }): Place {
  const { shape, dtype, device } = array;
  return { shape, dtype, device };
}

async function copyOf({ array }: Leaf): Promise<ArrayValues> {
  return (await array.ref.data()) as ArrayValues;
}

function replaced(jax: Jax, array: JaxArray, values: ArrayValues): JaxArray {
  const place = placeOf({ array });
  array.dispose();
  return arrayOf(jax, place, values);
}

function arrayOf(jax: Jax, { shape, dtype, device }: Place, values: ArrayValues): JaxArray {
  // Arrays that are put on a device by name cannot be combined with those of another one.
  const where = device === jax.defaultDevice() ? {} : { device };
  return jax.numpy.array(values as never, { shape: [...shape], dtype, ...where });
}
