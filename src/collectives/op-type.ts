/** Kinds of op, with c10d's numbers. c10d: `OpType`. */
export enum OpType {
  BROADCAST = 0,
  ALLREDUCE = 1,
  ALLREDUCE_COALESCED = 2,
  REDUCE = 3,
  ALLGATHER = 4,
  ALLGATHER_BASE = 5,
  ALLGATHER_COALESCED = 6,
  GATHER = 7,
  SCATTER = 8,
  REDUCE_SCATTER = 9,
  ALLTOALL_BASE = 10,
  ALLTOALL = 11,
  SEND = 12,
  RECV = 13,
  RECV_ANY_SOURCE = 14,
  BARRIER = 15,
  REDUCE_SCATTER_BASE = 16,
  COALESCED = 17,
  ALLREDUCE_SPARSE = 18,
  REDUCE_SCATTER_TENSOR_COALESCED = 19,
  UNKNOWN = 100,
}

/** Whether an op is point-to-point: these are not ordered with collectives. */
export function isMessage(opType: OpType): boolean {
  return opType === OpType.SEND || opType === OpType.RECV || opType === OpType.RECV_ANY_SOURCE;
}
