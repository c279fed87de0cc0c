/** PyTorch's names of the ops of each kind: ranks that call any two of one kind have called the same op. */
const namesByKind: Readonly<Record<string, readonly string[]>> = {
  all_reduce: [
    "allreduce",
    "allreduce_coalesced",
    "all_reduce_coalesced",
    "sparse_all_reduce",
    "all_reduce_sparse",
    "_allreduce_sparse",
  ],
  broadcast: ["_broadcast_oop"],
  reduce: ["_reduce_oop"],
  all_gather: [
    "allgather",
    "_allgather_base",
    "_all_gather_base",
    "all_gather_into_tensor",
    "all_gather_into_tensor_coalesced",
    "all_gather_coalesced",
    "all_gather_single",
    "all_gather_v",
    "allgather_coalesced",
  ],
  reduce_scatter: [
    "_reduce_scatter_base",
    "reduce_scatter_tensor",
    "reduce_scatter_tensor_coalesced",
    "reduce_scatter_coalesced",
    "reduce_scatter_single",
    "reduce_scatter_v",
  ],
  all_to_all: ["alltoall", "alltoall_base", "all_to_all_single", "all_to_all_v_single"],
  gather: ["gather_single"],
  barrier: ["all_reduce_barrier", "monitored_barrier"],
};

const kinds: ReadonlyMap<string, string> = new Map(
  Object.entries(namesByKind).flatMap(([kind, names]) => names.map((name) => [name, kind] as const)),
);

/** The kind of an op by its name; a name that is not known is its own kind. */
export function opKind(name: string): string {
  return kinds.get(name.toLowerCase()) ?? name;
}

/** Whether the parts of the ranks may differ in size. */
export function isUneven(name: string): boolean {
  return name.endsWith("_v");
}

const synchronizing: ReadonlySet<string> = new Set([
  "all_reduce",
  "all_gather",
  "reduce_scatter",
  "all_to_all",
  "barrier",
]);

/** Whether no rank can complete an op of this kind before all ranks have called it. */
export function needsAllRanks(kind: string): boolean {
  return synchronizing.has(kind);
}

/** A profiling name: the backend, the op and, for a message, its ranks in the group. */
export interface ProfilingName {
  readonly backend: string;
  readonly op: string;
  readonly ranks: { readonly source: number; readonly destination: number } | undefined;
}

/** Takes apart a name such as `nccl:all_reduce` or `nccl:recv 3<-0`. */
export function profilingName(text: string): ProfilingName {
  const match = /^(?:([^:\s]*):)?(\S+)(?: (\d{1,9})(->|<-)(\d{1,9}))?$/.exec(text);
  if (match === null) return { backend: "", op: text, ranks: undefined };
  const [, backend = "", op = "", left, arrow, right] = match;
  if (arrow === undefined) return { backend, op, ranks: undefined };
  const [source, destination] = arrow === "->" ? [left, right] : [right, left];
  return { backend, op, ranks: { source: Number(source), destination: Number(destination) } };
}
