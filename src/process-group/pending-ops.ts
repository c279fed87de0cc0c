import type { ErrorDetails } from "../errors/index.ts";
import type { GroupRecord, TraceEntry } from "../recorder/index.ts";
import type { RankStatus } from "../status/index.ts";
import type { StatusOfRanks } from "./group-works.ts";

/** How many ops a message names. */
const MAX_NAMED = 3;

/** Ops of a group that are in flight, for the error of a wait for all of them. */
export interface PendingOps {
  /** Empty if nothing is known. */
  readonly text: string;
  /** The first of them, and the ranks that it waits for. */
  readonly details: ErrorDetails;
}

/**
 * Describes the ops of a group that are in flight, and the ranks that the first one waits for.
 * @param entries What the flight recorder has of them, the oldest first.
 */
export function pendingOps(
  entries: readonly TraceEntry[],
  group: GroupRecord,
  statuses: StatusOfRanks | undefined,
): PendingOps {
  const [first] = entries;
  if (first === undefined) return { text: "", details: {} };
  const named = entries.slice(0, MAX_NAMED).map(entryText);
  const more = entries.length - named.length;
  if (more > 0) named.push(`and ${more} more`);
  const { op, seq, callSite } = first;
  const awaited = statuses && awaitedBy(statuses, group);
  const details = {
    ...{ op, ...(seq >= 0 && { seq }), ...(callSite !== undefined && { callSite }) },
    ...(awaited !== undefined && awaited.culprits.length > 0 && { peers: awaited.culprits }),
  };
  return { text: [named.join(", "), ...(awaited?.text ? [awaited.text] : [])].join("; "), details };
}

function entryText({ op, seq, callSite }: TraceEntry): string {
  return `${op}${seq < 0 ? "" : ` #${seq}`}${callSite === undefined ? "" : `, called at ${callSite}`}`;
}

/** What the records say of the ranks that the oldest op of a group waits for. */
function awaitedBy(statuses: StatusOfRanks, { name: group, rank, globalRanks }: GroupRecord) {
  const ranks: ReadonlyMap<number, RankStatus> = statuses.all.ranks();
  const oldest = ranks.get(globalRanks[rank] ?? -1)?.inFlight.find((each) => each.group === group);
  if (oldest === undefined) return undefined;
  const { turn, peer, began } = oldest;
  const peers = turn === 0 && peer >= 0 ? [peer] : [];
  return statuses.all.missingRanks(
    { group, rank, globalRanks, peers, turn, began, haveLeft: false, hasWaited: true },
    ranks,
  );
}
