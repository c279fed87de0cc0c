import { DistNetworkError, descriptorShortage } from "../../errors/index.ts";

/** `host:port`, with brackets around an IPv6 address. */
export function hostPort(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Whether only processes of the same host can reach an IP address. */
export function isLoopback(address: string): boolean {
  return address.startsWith("127.") || address === "::1";
}

/** All IP addresses of a host, IPv4 first; for an IP address, just that. Rejects as `node:dns` does. */
export async function addressesOf(host: string): Promise<string[]> {
  // Only an IPv6 address has colons. Bun's node:net has isIP, but costs 5 ms of start-up, and node:dns some more.
  if (host.includes(":") || /^\d+\.\d+\.\d+\.\d+$/.test(host)) return [host];
  const { lookup } = await import("node:dns/promises");
  const found = await lookup(host, { all: true });
  return [...new Set(found.sort((a, b) => a.family - b.family).map((entry) => entry.address))];
}

/**
 * The address to listen on for a host name: exactly that interface, and loopback for a loopback name.
 * @throws DistNetworkError when the name is unknown.
 */
export async function listenAddress(host: string): Promise<string> {
  let cause: unknown;
  try {
    const [first] = await addressesOf(host);
    if (first !== undefined) return first;
  } catch (error) {
    cause = error;
  }
  const shortage = descriptorShortage();
  if (shortage !== undefined) {
    throw new DistNetworkError(`cannot look up ${host}: ${shortage.text}`, { code: shortage.code, host, cause });
  }
  throw new DistNetworkError(
    `the store server cannot listen on ${host}: the name has no address here. Give an address of this machine, or "0.0.0.0" for all.`,
    { code: "UNKNOWN_HOST", host, cause },
  );
}
