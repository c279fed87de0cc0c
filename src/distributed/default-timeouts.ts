import { BackendType, backendTypeOf } from "../registry/index.ts";
import { defaultTimeoutMs } from "../time/index.ts";

/** Default time-out of groups, in milliseconds. c10d: `default_pg_timeout`. */
export const DEFAULT_PG_TIMEOUT: number = defaultTimeoutMs.processGroup;

/** Default time-out of groups whose only backend is NCCL, in milliseconds. c10d: `default_pg_nccl_timeout`. */
export const DEFAULT_PG_NCCL_TIMEOUT: number = defaultTimeoutMs.nccl;

/** The default time-out of a group with this backend, given as to `initProcessGroup`. */
export function defaultTimeoutOf(backend: string | BackendType | undefined): number {
  const type = typeof backend === "string" ? backendTypeOf(backend.trim()) : backend;
  return type === BackendType.NCCL ? DEFAULT_PG_NCCL_TIMEOUT : DEFAULT_PG_TIMEOUT;
}
