export { dataParallel, JaxDataParallel, type JaxOptions } from "./jax-data-parallel.ts";
export type { ArrayValues, Jax, JaxArray } from "./jax-interface.ts";
