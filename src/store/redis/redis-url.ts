import { InvalidArgumentError } from "../../errors/index.ts";

/** What a URL of a RedisStore says. */
export interface RedisPlace {
  /** What Bun's client takes. */
  readonly clientUrl: string;
  /** For messages: without the password. */
  readonly name: string;
  readonly host: string;
  /** Absent for a Unix socket. */
  readonly port: number | undefined;
  readonly prefix: string | undefined;
}

const example = "redis://user:password@host:6379/0/prefix, rediss://… or redis+unix:///path/to/socket?prefix=…";

/**
 * Reads `redis[s]://[[user]:password@]host[:port][/db][/prefix]` or `redis+unix:///socket`, both with `?prefix=`.
 * @throws InvalidArgumentError
 */
export function parseRedisUrl(text: string): RedisPlace {
  const url = typeof text === "string" ? URL.parse(text) : null;
  if (url === null || !["redis:", "rediss:", "redis+unix:"].includes(url.protocol)) {
    throw new InvalidArgumentError(`not the URL of a Redis server; write ${example}`, { argument: "url" });
  }
  const inQuery = url.searchParams.get("prefix") ?? undefined;
  if (url.protocol === "redis+unix:") {
    const host = decoded(url.pathname);
    if (host === "") throw new InvalidArgumentError("redis+unix:// needs the path of a socket", { argument: "url" });
    return { clientUrl: `redis+unix://${host}`, name: host, host, port: undefined, prefix: inQuery };
  }
  if (url.hostname === "") throw new InvalidArgumentError(`no host in the URL; write ${example}`, { argument: "url" });
  const port = url.port === "" ? 6379 : Number(url.port);
  const [, db = "", prefix = ""] = /^\/?(\d+(?=\/|$))?\/?(.*)$/s.exec(url.pathname) ?? [];
  const login = url.username === "" && url.password === "" ? "" : `${url.username}:${url.password}@`;
  return {
    clientUrl: `${url.protocol}//${login}${url.hostname}:${port}/${db}`,
    name: `${url.hostname}:${port}`,
    host: url.hostname.replace(/^\[(.*)\]$/, "$1"),
    port,
    prefix: inQuery ?? (prefix === "" ? undefined : decoded(prefix)),
  };
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch (cause) {
    throw new InvalidArgumentError(
      `the URL of the Redis server has a "%" that is not a UTF-8 escape in ${JSON.stringify(part)}; write %25 for the character itself`,
      { argument: "url", cause },
    );
  }
}
