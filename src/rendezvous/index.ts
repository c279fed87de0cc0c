export { MeetingMissed, unlessDisagreement } from "./disagreement.ts";
export { type LauncherVariables, launcherVariables } from "./launchers/launcher-variables.ts";
export { checkScheme, meetAt } from "./rendezvous.ts";
export {
  RENDEZVOUS_HANDLER,
  type Rendezvous,
  type RendezvousCloseOptions,
  type RendezvousHandler,
  type RendezvousOptions,
  type SchemeHandler,
} from "./rendezvous-handler.ts";
export { agreeOnWorldSize, type Membership, whileAgreed } from "./world-size.ts";
