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

/** The type that a backend's name stands for: CUSTOM for every name that c10d does not know. */
export function backendTypeOf(name: string): BackendType {
  return byName.get(name.toLowerCase()) ?? BackendType.CUSTOM;
}

/** The name of the backend that is of this type alone; `undefined` for CUSTOM and UNDEFINED, which name none. */
export function backendNameOf(type: BackendType): string | undefined {
  for (const [name, each] of byName) if (each === type) return name;
  return undefined;
}
