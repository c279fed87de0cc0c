import { InvalidArgumentError } from "../../errors/index.ts";

/** Options of the Gloo backend: `initProcessGroup({ backend: "gloo", options: { … } })`. c10d: `ProcessGroupGloo.Options`. */
export interface GlooOptions {
  /** IP address of this machine to listen on. */
  readonly host?: string;
  /** Network interface to listen on, e.g. `"eth0"`. */
  readonly interface?: string;
  /** Collectives that may run at the same time: 1 to 64, 2 by default, as in PyTorch. */
  readonly threads?: number;
}

/** @throws InvalidArgumentError for unknown or wrong options. */
export function parseGlooOptions(options: Readonly<Record<string, unknown>>): GlooOptions {
  for (const key of Object.keys(options)) {
    if (key !== "host" && key !== "interface" && key !== "threads") {
      throw new InvalidArgumentError(`gloo: unknown option "${key}" (known are host, interface, threads)`, {
        argument: key,
      });
    }
  }
  const { host, interface: name, threads } = options;
  if (host !== undefined && typeof host !== "string") throw wrong("host", "a string", host);
  if (name !== undefined && typeof name !== "string") throw wrong("interface", "a string", name);
  if (
    threads !== undefined &&
    !(typeof threads === "number" && Number.isInteger(threads) && threads >= 1 && threads <= 64)
  ) {
    throw wrong("threads", "an integer from 1 to 64", threads);
  }
  return {
    ...(host !== undefined && { host }),
    ...(name !== undefined && { interface: name }),
    ...(threads !== undefined && { threads }),
  };
}

function wrong(option: string, expected: string, got: unknown): InvalidArgumentError {
  return new InvalidArgumentError(`gloo: option ${option} must be ${expected}, got ${String(got)}`, {
    argument: option,
  });
}
