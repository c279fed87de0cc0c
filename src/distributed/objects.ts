import { OpType } from "../collectives/index.ts";
import type {
  AllGatherObjectOptions,
  BroadcastObjectOptions,
  GatherObjectOptions,
  RecvObjectOptions,
  ScatterObjectOptions,
  SendObjectOptions,
} from "../process-group/index.ts";
import type { Work } from "../work/index.ts";
import { type InGroup, onGroup } from "./collectives.ts";

/** Gathers one object per rank on every rank: {@link ProcessGroup.allGatherObject}. */
export function allGatherObject<T>(object: T, options: InGroup<AllGatherObjectOptions> = {}): Work<T[]> {
  return onGroup<T[]>(
    OpType.ALLGATHER,
    options,
    [],
    (group) => group.allGatherObject(object, options),
    "allGatherObject",
  );
}

/** Gathers one object per rank on the destination: {@link ProcessGroup.gatherObject}. */
export function gatherObject<T>(object: T, options: InGroup<GatherObjectOptions>): Work<T[] | undefined> {
  return onGroup<T[] | undefined>(
    OpType.GATHER,
    options,
    undefined,
    (group) => group.gatherObject(object, options),
    "gatherObject",
  );
}

/**
 * Copies the source's object to all ranks: {@link ProcessGroup.broadcastObject}. On a rank that is not a member of the
 * group, resolves to `object` itself.
 */
export function broadcastObject<T>(object: T | undefined, options: InGroup<BroadcastObjectOptions>): Work<T> {
  return onGroup<T>(
    OpType.BROADCAST,
    options,
    object as T,
    (group) => group.broadcastObject(object, options),
    "broadcastObject",
  );
}

/** Scatters the source's objects, one to each rank: {@link ProcessGroup.scatterObject}. */
export function scatterObject<T>(
  objects: readonly T[] | undefined,
  options: InGroup<ScatterObjectOptions>,
): Work<T | undefined> {
  return onGroup<T | undefined>(
    OpType.SCATTER,
    options,
    undefined,
    (group) => group.scatterObject(objects, options),
    "scatterObject",
  );
}

/** Sends an object to one rank: {@link ProcessGroup.sendObject}. */
export function sendObject(object: unknown, options: InGroup<SendObjectOptions>): Work<void> {
  return onGroup(OpType.SEND, options, undefined, (group) => group.sendObject(object, options), "sendObject");
}

/** Receives an object from one rank, or from any rank: {@link ProcessGroup.recvObject}. */
export function recvObject<T>(options: InGroup<RecvObjectOptions> = {}): Work<T | undefined> {
  return onGroup<T | undefined>(OpType.RECV, options, undefined, (group) => group.recvObject(options), "recvObject");
}
