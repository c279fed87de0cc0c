import { isIPv6 } from "node:net";
import { InvalidArgumentError } from "../errors/index.ts";
import { parsePort } from "./port.ts";

const defaultPort = "29500";

/**
 * Host and port of `--rdzv-endpoint host[:port]`; an IPv6 address before a port is in brackets.
 * @throws InvalidArgumentError for other text.
 */
export function parseEndpoint(text: string): { readonly host: string; readonly port: number } {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+))(?::(\d+))?$/.exec(text);
  const host = match?.[1] || match?.[2] || (isIPv6(text) ? text : undefined);
  if (!host) {
    throw new InvalidArgumentError(`--rdzv-endpoint must be host:port, got ${JSON.stringify(text)}`, {
      argument: "rdzv-endpoint",
    });
  }
  return { host, port: parsePort("rdzv-endpoint", match?.[3] ?? defaultPort) };
}
