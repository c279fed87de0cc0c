import { type Environment, processEnvironment } from "../../environment/index.ts";
import type { BackendContext } from "../../registry/index.ts";
import { addressOfInterface, addressTowardsStore, LOOPBACK, listOf, outwardAddress } from "../native/host-address.ts";

/**
 * The IP address at which ranks of other hosts, if there are any, connect to this one to notice its exit: that of the
 * first interface in `UCX_NET_DEVICES` which has one, else the one from which the store is reached.
 */
export function watchAddress(
  context: Pick<BackendContext, "store">,
  environment: Environment = processEnvironment(),
): string {
  // The other names are RDMA devices and their ports.
  for (const name of listOf(environment.UCX_NET_DEVICES ?? "")) {
    const address = addressOfInterface(name);
    if (address !== undefined) return address;
  }
  return addressTowardsStore(context) ?? outwardAddress() ?? LOOPBACK;
}
