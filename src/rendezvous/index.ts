export { type LauncherVariables, launcherVariables } from "./launcher-variables.ts";
export { registerRendezvousHandler, rendezvous } from "./rendezvous.ts";
export type {
  Rendezvous,
  RendezvousCloseOptions,
  RendezvousHandler,
  RendezvousOptions,
} from "./rendezvous-handler.ts";
export { agreeOnWorldSize, MeetingMissed, type Membership, whileAgreed } from "./world-size.ts";
