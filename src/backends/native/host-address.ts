import { type NetworkInterfaceInfo, networkInterfaces } from "node:os";
import type { BackendContext } from "../../registry/index.ts";

export const LOOPBACK = "127.0.0.1";

/** The IP address from which this rank reaches the store; undefined if the store is on this host or has no server. */
export function addressTowardsStore({ store }: Pick<BackendContext, "store">): string | undefined {
  const address = store.localAddress;
  return address === undefined || isLoopback(address) ? undefined : address;
}

/** An IPv4 address of this host that others may reach; undefined if it has none. */
export function outwardAddress(): string | undefined {
  return Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .find((address) => !address.internal && address.family === "IPv4")?.address;
}

/**
 * The address of an interface of this host, IPv4 before IPv6; undefined if there is no such interface, or it has none.
 */
export function addressOfInterface(name: string): string | undefined {
  const addresses: readonly NetworkInterfaceInfo[] = networkInterfaces()[name] ?? [];
  return (addresses.find((address) => address.family === "IPv4") ?? addresses[0])?.address;
}

/** The items of a comma-separated list. */
export function listOf(text: string): string[] {
  return text
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");
}

function isLoopback(address: string): boolean {
  return address.startsWith("127.") || address === "::1" || address.startsWith("::ffff:127.");
}
