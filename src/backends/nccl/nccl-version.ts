/** A version of NCCL as `ncclGetVersion` numbers it since 2.9: 23007 is 2.30.7. */
export type NcclVersion = number;

/** The oldest version that is supported: the first whose communicators can be aborted and split. */
export const OLDEST: NcclVersion = 21800;

/** `"2.30.7"` for 23007. */
export function versionText(version: NcclVersion): string {
  // Before 2.9, 2.8.4 was 2804.
  const [major, rest] = version < 10_000 ? [1000, version % 1000] : [10_000, version % 10_000];
  return `${Math.floor(version / major)}.${Math.floor(rest / 100)}.${rest % 100}`;
}
