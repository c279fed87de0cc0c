import { DistBackendError, messageOf } from "../../errors/index.ts";
import { type BackendContext, type Capabilities, commonCapabilities } from "../../registry/index.ts";
import { capabilitiesFault } from "../../registry/plugin-shape.ts";

const keyOf = (rank: number): string => `capabilities/${rank}`;

/**
 * What the instances of all ranks support: an op that is composed of others must be composed in one way on all ranks.
 * The ranks exchange their capabilities through the store of their group.
 */
export async function agreedCapabilities(
  { store, rank, size, timeoutMs, groupName }: BackendContext,
  own: Capabilities,
): Promise<Capabilities> {
  const limits = { timeout: timeoutMs };
  await store.set(keyOf(rank), JSON.stringify(own), limits);
  const others = Array.from({ length: size }, (_, other) => other).filter((other) => other !== rank);
  const theirs = await Promise.all(
    others.map(async (other) => capabilitiesOf(other, groupName, await store.get(keyOf(other), limits))),
  );
  return commonCapabilities([own, ...theirs]);
}

function capabilitiesOf(rank: number, group: string, bytes: Uint8Array): Capabilities {
  let fault: string | undefined;
  try {
    const value: unknown = JSON.parse(new TextDecoder().decode(bytes));
    fault = capabilitiesFault(value);
    if (fault === undefined) return value as Capabilities;
  } catch (error) {
    fault = `: ${messageOf(error)}`;
  }
  throw new DistBackendError(`group "${group}": the capabilities of rank ${rank} cannot be read${fault}`, {
    group,
    peers: [rank],
    code: "INVALID_CAPABILITIES",
  });
}
