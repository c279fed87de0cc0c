import { networkInterfaces } from "node:os";
import { type Environment, processEnvironment } from "../../environment/index.ts";
import type { BackendContext } from "../../registry/index.ts";
import { addressOfInterface, addressTowardsStore, LOOPBACK, listOf, outwardAddress } from "../native/host-address.ts";

/**
 * The IP address at which ranks of other hosts, if there are any, connect to this one to notice its exit: that of the
 * first interface that `NCCL_SOCKET_IFNAME` names, by the beginnings of names or `=` and a whole one, else the one from
 * which the store is reached.
 */
export function watchAddress(
  context: Pick<BackendContext, "store">,
  environment: Environment = processEnvironment(),
  interfaces: readonly string[] = Object.keys(networkInterfaces()),
): string {
  const wanted = environment.NCCL_SOCKET_IFNAME ?? "";
  // With ^ it names those that are not to be used.
  for (const name of wanted.startsWith("^") ? [] : listOf(wanted)) {
    const found = name.startsWith("=") ? name.slice(1) : interfaces.find((each) => each.startsWith(name));
    const address = found === undefined ? undefined : addressOfInterface(found);
    if (address !== undefined) return address;
  }
  return addressTowardsStore(context) ?? outwardAddress() ?? LOOPBACK;
}
