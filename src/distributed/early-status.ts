import { environmentText } from "../environment/index.ts";
import { loadedOnce } from "../registry/services/loaded-once.ts";
import { launcherVariables } from "../rendezvous/index.ts";
import type { OwnStatus, OwnStatusPlan } from "../status/index.ts";
import { launcherJobId } from "./launcher-job.ts";

/** The options of `initProcessGroup` that say which rank this is. */
interface PlaceOptions {
  readonly init?: string;
  readonly initMethod?: string;
  readonly rank?: number;
  readonly worldSize?: number;
}

/** A rank before the rendezvous. */
export interface EarlyRank {
  readonly rank: number;
  /** 0 if it is not known yet. */
  readonly worldSize: number;
  /** Its record, if its launcher lets all ranks know where. */
  readonly status: OwnStatus | undefined;
}

/**
 * What is known of this rank before it has met the others, so that a rendezvous that hangs can be seen; undefined if its
 * rank is not known.
 */
export async function earlyRank(
  options: PlaceOptions,
  onFault: (text: string) => void,
): Promise<EarlyRank | undefined> {
  const query = URL.parse(options.init ?? options.initMethod ?? "")?.searchParams;
  const names = launcherVariables();
  const rank = count(options.rank ?? query?.get("rank") ?? environmentText(names.rank));
  if (rank === undefined) return undefined;
  const worldSize = count(options.worldSize ?? query?.get("world_size") ?? environmentText(names.worldSize)) ?? 0;
  const launcherJob = launcherJobId(names);
  const isLaunched = environmentText("C10D_STATUS_DIR") !== undefined || launcherJob !== undefined;
  return {
    rank,
    worldSize,
    status: isLaunched ? await openStatus({ rank, worldSize, job: undefined, launcherJob, onFault }) : undefined,
  };
}

/** A text may be anything: the rendezvous says what is wrong with it. */
function count(value: number | string | undefined): number | undefined {
  const number = typeof value === "string" && /^\d+$/.test(value) ? Number(value) : value;
  return typeof number === "number" && Number.isSafeInteger(number) && number >= 0 ? number : undefined;
}

/** Only a rank of a group needs it. */
const loadStatus = loadedOnce(() => import("../status/own-status.ts"));

/** The status record of this rank. */
export async function openStatus(plan: OwnStatusPlan): Promise<OwnStatus | undefined> {
  const { OwnStatus } = await loadStatus();
  return OwnStatus.open(plan);
}
