import { type Environment, environmentFlag, environmentInteger, processEnvironment } from "../../environment/index.ts";
import type { BackendContext } from "../../registry/index.ts";
import { configFields, configSettings } from "./config-fields.ts";
import type { NcclVersion } from "./nccl-version.ts";
import type { NcclOptions } from "./options.ts";

/** The longest limit that the shim takes, in milliseconds: 24 days. */
const LONGEST_MS = 2 ** 31 - 1;

/**
 * What all communicators of a group are made with, as options of the shim.
 * @throws InvalidArgumentError for a field of the configuration that the library does not have, and for a variable
 *   with an invalid value.
 */
export function settingsOf(
  { options, groupName }: Pick<BackendContext<NcclOptions>, "options" | "groupName">,
  library: NcclVersion,
  environment: Environment = processEnvironment(),
): Record<string, string> {
  const isNonblocking = environmentFlag("TORCH_NCCL_USE_COMM_NONBLOCKING", environment);
  const limitSeconds = environmentInteger("TORCH_NCCL_NONBLOCKING_TIMEOUT", environment);
  const isUrgent = options.isHighPriorityStream ?? environmentFlag("TORCH_NCCL_HIGH_PRIORITY", environment);
  const named = library >= configFields.commName.since ? { commName: groupName } : {};
  return {
    ...configSettings({ ...named, ...(!isNonblocking && { blocking: true }), ...options.config }, library),
    ...(limitSeconds !== undefined && { "nonblocking-timeout": String(Math.min(limitSeconds * 1000, LONGEST_MS)) }),
    ...(isUrgent && { "high-priority": "1" }),
  };
}
