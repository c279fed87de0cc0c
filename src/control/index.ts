export { type ControlBarrierOptions, type ControlOptions, StoreCollectives } from "./store-collectives.ts";
