export { anybodyAt, strangerAt } from "./stranger.ts";
