export {
  type Rendezvous,
  type RendezvousCloseOptions,
  type RendezvousHandler,
  type RendezvousOptions,
  registerRendezvousHandler,
  rendezvous,
} from "./rendezvous.ts";
export { agreeOnWorldSize, type Membership } from "./world-size.ts";
