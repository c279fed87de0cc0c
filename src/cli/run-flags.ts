import { statSync } from "node:fs";
import { resolve } from "node:path";
import { InvalidArgumentError } from "../errors/index.ts";
import { timeoutMs } from "../time/index.ts";
import type { JobOptions } from "./launcher/job-options.ts";
import type { OutputStream } from "./launcher/job-output.ts";
import { parsePort } from "./port.ts";
import { parseEndpoint } from "./rdzv-endpoint.ts";

const scriptNames = /\.[cm]?[jt]sx?$/;

/** The number of ranks on each node. @throws InvalidArgumentError unless it is an integer of at least 1. */
export function parseRanks(text: string | undefined): number {
  if (text === undefined) {
    throw new InvalidArgumentError("-n is missing: how many ranks?", { argument: "nproc-per-node" });
  }
  return parseCount("n", text, 1);
}

/** @throws InvalidArgumentError unless the text is an integer of at least `least`. */
export function parseCount(flag: string, text: string, least: number): number {
  const count = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!(count >= least && Number.isSafeInteger(count))) {
    const shown = flag.length === 1 ? `-${flag}` : `--${flag}`;
    throw new InvalidArgumentError(`${shown} must be an integer of at least ${least}, got ${JSON.stringify(text)}`, {
      argument: flag,
    });
  }
  return count;
}

/** The number of nodes and the number of this one. @throws InvalidArgumentError unless they match. */
export function parseNode(count: string, rank: string | undefined): { readonly nnodes: number; readonly node: number } {
  const nnodes = parseCount("nnodes", count, 1);
  if (rank === undefined && nnodes > 1) {
    throw new InvalidArgumentError("--node-rank is missing: which of the nodes is this?", { argument: "node-rank" });
  }
  const node = parseCount("node-rank", rank ?? "0", 0);
  if (node >= nnodes) {
    throw new InvalidArgumentError(`--node-rank must be below --nnodes, which is ${nnodes}, got ${node}`, {
      argument: "node-rank",
    });
  }
  return { nnodes, node };
}

/** Where the store of the ranks is. @throws InvalidArgumentError for flags that conflict or are missing. */
export function masterPlace(
  nnodes: number,
  endpoint: string | undefined,
  host: string | undefined,
  port: string | undefined,
): { readonly host: string; readonly port: number } {
  if (endpoint !== undefined && (host !== undefined || port !== undefined)) {
    throw new InvalidArgumentError("give --rdzv-endpoint or --master-addr and --master-port, not both", {
      argument: "rdzv-endpoint",
    });
  }
  if (endpoint === undefined && nnodes > 1) {
    throw new InvalidArgumentError("several nodes need --rdzv-endpoint host:port: where does node 0 host the store?", {
      argument: "rdzv-endpoint",
    });
  }
  if (endpoint === undefined) {
    if (host === "") throw new InvalidArgumentError("--master-addr must not be empty", { argument: "master-addr" });
    return { host: host ?? "127.0.0.1", port: parsePort("master-port", port ?? "0") };
  }
  const place = parseEndpoint(endpoint);
  if (nnodes > 1 && (place.port === 0 || place.host === "0.0.0.0" || place.host === "::")) {
    throw new InvalidArgumentError(
      `--rdzv-endpoint must be an address and a port that the other nodes can connect to, got ${endpoint}`,
      { argument: "rdzv-endpoint" },
    );
  }
  return place;
}

/** @throws InvalidArgumentError unless the id can be the name of a folder. */
export function parseRunId(text: string | undefined): string | undefined {
  if (text === undefined || /^[A-Za-z0-9_][A-Za-z0-9_.-]*$/.test(text)) return text;
  throw new InvalidArgumentError(
    `--rdzv-id must be a folder name of letters, digits, ".", "_" and "-", got ${JSON.stringify(text)}`,
    { argument: "rdzv-id" },
  );
}

const redirects: ReadonlyMap<string, readonly OutputStream[]> = new Map([
  ["1", ["stdout"]],
  ["2", ["stderr"]],
  ["3", ["stdout", "stderr"]],
]);

/** Which streams go to files, and where. @throws InvalidArgumentError for unknown streams, or without a folder. */
export function parseLogs(folder: string | undefined, which: string | undefined): JobOptions["logs"] {
  if (folder === undefined) {
    if (which === undefined) return undefined;
    throw new InvalidArgumentError("--redirects needs --log-dir", { argument: "redirects" });
  }
  const streams = redirects.get(which ?? "3");
  if (streams === undefined) {
    throw new InvalidArgumentError(`--redirects must be 1, 2 or 3, got ${JSON.stringify(which)}`, {
      argument: "redirects",
    });
  }
  return { folder: resolve(folder), streams };
}

/** @throws InvalidArgumentError without a log folder. */
export function parseTee(tee: boolean, folder: string | undefined): boolean {
  if (tee && folder === undefined) throw new InvalidArgumentError("--tee needs --log-dir", { argument: "tee" });
  return tee;
}

/** A time in milliseconds. @throws InvalidArgumentError naming the flag. */
export function parseTime(flag: string, text: string | undefined, defaultMs: number): number {
  try {
    return timeoutMs(text, defaultMs);
  } catch (cause) {
    throw new InvalidArgumentError(`--${flag} must be a time such as 500ms, 30s or 5m, got ${JSON.stringify(text)}`, {
      argument: flag,
      cause,
    });
  }
}

/** Program and arguments of a rank. @throws InvalidArgumentError when there is no such script or program. */
export function rankCommand(program: readonly string[], asIs: boolean): readonly string[] {
  const [name, ...args] = program;
  if (name === undefined) throw new InvalidArgumentError("no script given", { argument: "script" });
  if (asIs) {
    if (Bun.which(name) === null) throw new InvalidArgumentError(`no such program: ${name}`, { argument: "script" });
    return program;
  }
  const script = resolve(name);
  if (!scriptNames.test(name)) {
    throw new InvalidArgumentError(
      `${name} does not look like a script for Bun (.ts, .tsx, .js, .mjs …); give --no-bun to run another program`,
      { argument: "script" },
    );
  }
  if (!statSync(script, { throwIfNoEntry: false })?.isFile()) {
    throw new InvalidArgumentError(`no such script: ${script}`, { argument: "script" });
  }
  return [process.execPath, script, ...args];
}
