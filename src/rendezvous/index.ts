export { type LauncherVariables, launcherVariables } from "./launcher-variables.ts";
export { registerRendezvousHandler, rendezvous } from "./rendezvous.ts";
export type {
  Rendezvous,
  RendezvousCloseOptions,
  RendezvousHandler,
  RendezvousOptions,
} from "./rendezvous-handler.ts";
export { agreeOnWorldSize, type Membership, whileAgreed } from "./world-size.ts";
