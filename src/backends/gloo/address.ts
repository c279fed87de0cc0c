import { isIP } from "node:net";
import { networkInterfaces } from "node:os";
import { type Environment, processEnvironment } from "../../environment/index.ts";
import { InvalidArgumentError } from "../../errors/index.ts";
import type { BackendContext } from "../../registry/index.ts";
import { addressOfInterface, addressTowardsStore, LOOPBACK, listOf, outwardAddress } from "../native/host-address.ts";
import type { GlooOptions } from "./options.ts";

/**
 * The IP addresses that this rank listens on and publishes to its peers: those of the `host` or `interface` option,
 * else of `GLOO_SOCKET_IFNAME` or `C10D_GLOO_HOST`, else the address from which the store is reached; loopback when all
 * ranks are on this host. All ranks have to name several interfaces in the same order; ops use them in turn.
 *
 * @throws InvalidArgumentError for an interface that does not exist or has no address.
 */
export function listenAddresses(
  context: Pick<BackendContext, "store" | "size">,
  options: GlooOptions,
  environment: Environment = processEnvironment(),
): string[] {
  if (options.host !== undefined) return listOf(options.host).map(literal);
  const names = listOf(options.interface ?? environment.GLOO_SOCKET_IFNAME ?? "");
  if (names.length > 0) return names.map(requireAddress);
  const hosts = listOf(environment.C10D_GLOO_HOST ?? "");
  return hosts.length > 0 ? hosts.map(literal) : [reachableAddress(context, environment)];
}

function reachableAddress(context: Pick<BackendContext, "store" | "size">, environment: Environment): string {
  const towardsStore = addressTowardsStore(context);
  if (towardsStore !== undefined) return towardsStore;
  // The store is on this host. Are all ranks?
  const localWorldSize = Number(environment.LOCAL_WORLD_SIZE ?? context.size);
  return (localWorldSize < context.size ? outwardAddress() : undefined) ?? LOOPBACK;
}

function literal(host: string): string {
  if (host === "localhost") return LOOPBACK;
  if (isIP(host) !== 0) return host;
  throw new InvalidArgumentError(`gloo: host must be an IP address of this machine, got "${host}"`, {
    argument: "host",
  });
}

function requireAddress(name: string): string {
  const address = addressOfInterface(name);
  if (address !== undefined) return address;
  const names = Object.keys(networkInterfaces()).join(", ");
  throw new InvalidArgumentError(`gloo: unable to find an address of interface "${name}"; this machine has ${names}`, {
    argument: "interface",
  });
}
