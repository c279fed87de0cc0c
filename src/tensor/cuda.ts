import type * as Cuda from "./cuda/index.ts";

let loaded: typeof Cuda | undefined;

/** Loaded on first use, and synchronously, since tensors are made by plain calls. */
function load(): typeof Cuda {
  loaded ??= require("./cuda/index.ts") as typeof Cuda;
  return loaded;
}

/**
 * Tensors in the memory of CUDA devices, with streams and events. Nothing of it is loaded before its first use, and the
 * driver only by that.
 *
 * ```ts
 * using x = cuda.from(new Float32Array([1, 2, 3]));
 * await allReduce(x);
 * const sums = await x.toHost();
 * ```
 *
 * c10d: `torch.cuda`, and tensors with `device="cuda"`.
 */
export const cuda: typeof Cuda = new Proxy({} as typeof Cuda, {
  get: (_, name) => Reflect.get(load(), name),
  has: (_, name) => Reflect.has(load(), name),
  ownKeys: () => Reflect.ownKeys(load()),
  getOwnPropertyDescriptor: (_, name) => {
    if (!Reflect.has(load(), name)) return undefined;
    return { value: Reflect.get(load(), name), enumerable: true, configurable: true, writable: false };
  },
  set: () => false,
});
