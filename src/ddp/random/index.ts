export { Generator } from "./generator.ts";
export { fillRandn, randn } from "./randn.ts";
export { RandomState } from "./random-state.ts";
export { randperm } from "./randperm.ts";
