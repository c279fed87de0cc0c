import { InvalidArgumentError } from "../errors/index.ts";

/** The value of a port flag. @throws InvalidArgumentError unless it is an integer from 0 to 65535. */
export function parsePort(flag: string, text: string): number {
  const port = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!(port <= 65_535)) {
    throw new InvalidArgumentError(`--${flag} must be an integer from 0 to 65535, got ${JSON.stringify(text)}`, {
      argument: flag,
    });
  }
  return port;
}
