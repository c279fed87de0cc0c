export { nanCheck } from "./nan-check.ts";
export { roundRobin } from "./round-robin.ts";
