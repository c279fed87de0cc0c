export { type DesyncHelper, desyncCheck } from "./desync/desync-check.ts";
export { nanCheck } from "./nan-check.ts";
export { roundRobin } from "./round-robin.ts";
