import { isIP } from "node:net";
import { type NetworkInterfaceInfo, networkInterfaces } from "node:os";
import { InvalidArgumentError } from "../../errors/index.ts";
import type { BackendContext } from "../../registry/index.ts";
import type { GlooOptions } from "./options.ts";

const LOOPBACK = "127.0.0.1";

/**
 * The IP addresses that this rank listens on and tells its peers: those of the `host` or `interface` option, else of
 * `GLOO_SOCKET_IFNAME`, else the address from which the store is reached; loopback when all ranks are on this host. Of
 * several interfaces, which all ranks have to name in the same order, ops use one after the other.
 *
 * @throws InvalidArgumentError for an interface that does not exist or has no address.
 */
export function listenAddresses(
  context: Pick<BackendContext, "store" | "size">,
  options: GlooOptions,
  environment: Readonly<Record<string, string | undefined>> = process.env,
): string[] {
  if (options.host !== undefined) return listOf(options.host).map(literal);
  const names = listOf(options.interface ?? environment.GLOO_SOCKET_IFNAME ?? "");
  return names.length > 0 ? names.map(addressOfInterface) : [reachableAddress(context, environment)];
}

/** The parts of a list that is written with commas. */
function listOf(text: string): string[] {
  return text
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");
}

function reachableAddress(
  context: Pick<BackendContext, "store" | "size">,
  environment: Readonly<Record<string, string | undefined>>,
): string {
  const towardsStore = context.store.localAddress;
  if (towardsStore !== undefined && !isLoopback(towardsStore)) return towardsStore;
  // The store is on this host. Are all ranks?
  const localWorldSize = Number(environment.LOCAL_WORLD_SIZE ?? context.size);
  if (localWorldSize >= context.size) return LOOPBACK;
  const outward = Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .find((address) => !address.internal && address.family === "IPv4");
  return outward?.address ?? LOOPBACK;
}

function literal(host: string): string {
  if (host === "localhost") return LOOPBACK;
  if (isIP(host) !== 0) return host;
  throw new InvalidArgumentError(`gloo: host must be an IP address of this machine, got "${host}"`, {
    argument: "host",
  });
}

function addressOfInterface(name: string): string {
  const interfaces = networkInterfaces();
  const addresses: readonly NetworkInterfaceInfo[] = interfaces[name] ?? [];
  const best = addresses.find((address) => address.family === "IPv4") ?? addresses[0];
  if (best !== undefined) return best.address;
  throw new InvalidArgumentError(
    `gloo: unable to find an address of interface "${name}"; this machine has ${Object.keys(interfaces).join(", ")}`,
    { argument: "interface" },
  );
}

function isLoopback(address: string): boolean {
  return address.startsWith("127.") || address === "::1" || address.startsWith("::ffff:127.");
}
