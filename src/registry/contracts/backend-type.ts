/** Kinds of backend. c10d: `ProcessGroup.BackendType`. */
export enum BackendType {
  UNDEFINED = 0,
  GLOO = 1,
  NCCL = 2,
  UCC = 3,
  MPI = 4,
  CUSTOM = 5,
}

const byName: ReadonlyMap<string, BackendType> = new Map([
  ["gloo", BackendType.GLOO],
  ["nccl", BackendType.NCCL],
  ["ucc", BackendType.UCC],
  ["mpi", BackendType.MPI],
]);

/** The type of a backend by its name: CUSTOM for every name that c10d does not know. */
export function backendTypeOf(name: string): BackendType {
  return byName.get(name.toLowerCase()) ?? BackendType.CUSTOM;
}

/** The name of the only backend of this type; `undefined` for CUSTOM and UNDEFINED, which identify none. */
export function backendNameOf(type: BackendType): string | undefined {
  for (const [name, each] of byName) if (each === type) return name;
  return undefined;
}
