import { InvalidArgumentError } from "../errors/index.ts";

/** Reads a number that identifies a rank; `missing` makes the error when there is none. */
export function integerFrom(
  name: string,
  given: number | undefined,
  text: string | null | undefined,
  missing: () => InvalidArgumentError,
): number {
  if (given !== undefined) return given;
  if (text === null || text === undefined || text === "") throw missing();
  const value = Number(text);
  if (/^\s*[+-]?\d+\s*$/.test(text) && Number.isSafeInteger(value)) return value;
  throw new InvalidArgumentError(`${name} must be an integer, got ${JSON.stringify(text)}`, { argument: name });
}

/**
 * @param names Where the numbers come from, such as variables.
 * @throws InvalidArgumentError unless `rank` is one of `worldSize` ranks.
 */
export function checkMembership(
  rank: number,
  worldSize: number,
  names = { rank: "rank", worldSize: "world size" },
): void {
  if (worldSize < 1) {
    throw new InvalidArgumentError(`${names.worldSize} must be at least 1, got ${worldSize}`, {
      argument: "worldSize",
    });
  }
  if (rank < 0 || rank >= worldSize) {
    throw new InvalidArgumentError(
      `${names.rank} must be between 0 and ${worldSize - 1} (${names.worldSize} ${worldSize}), got ${rank}`,
      { argument: "rank", rank },
    );
  }
}

/** The error of a URL other than env:// without a rank or a world size, if the caller gave none either. */
export function missingParameter(scheme: string, what: string): InvalidArgumentError {
  const advice = `give initProcessGroup() rank and worldSize, or write ${scheme}://…?rank=0&world_size=2`;
  return rendezvousError(scheme, `${what} parameter missing: ${advice}`);
}

/** The error of a rendezvous that lacks something, in PyTorch's words. */
export function rendezvousError(scheme: string, what: string, code?: string): InvalidArgumentError {
  return new InvalidArgumentError(`Error initializing torch.distributed using ${scheme}:// rendezvous: ${what}`, {
    argument: "url",
    ...(code !== undefined && { code }),
  });
}
