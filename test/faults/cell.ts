/** `nccl` runs on the emulators of CUDA and NCCL. */
export const backends = ["gloo", "nccl"] as const;
/** What happens to one rank while the others need it. */
export const faults = ["SIGKILL", "SIGSTOP", "exit", "leave", "throw", "cut"] as const;
export const ops = ["allReduce", "broadcast", "allGather", "allToAll", "sendRecv", "barrier"] as const;
export const modes = ["await", "wait"] as const;

export type FaultBackend = (typeof backends)[number];

/**
 * `exit` is process.exit(0), `leave` the end of the script without destroyProcessGroup(), `cut` the loss of the network
 * between the rank and all others.
 */
export type Fault = (typeof faults)[number];
/** `sendRecv` is a ring: every rank sends to the next and receives from the one before. */
export type FaultOp = (typeof ops)[number];
export type Mode = (typeof modes)[number];

/** One combination of the fault matrix. */
export interface Cell {
  readonly backend: FaultBackend;
  readonly fault: Fault;
  readonly op: FaultOp;
  /** How the others wait for their ops. */
  readonly mode: Mode;
  /** Bytes of the tensor; with large ones the fault comes in the middle of a transfer. */
  readonly bytes: number;
  readonly worldSize: number;
  /** Rank that fails; the root of a broadcast. */
  readonly culprit: number;
  /** Time-out of the ops. */
  readonly timeoutMs: number;
}

const SMALL = 4;

/** What runs on a backend. */
interface Extent {
  readonly worldSizes: readonly number[];
  readonly faults: readonly Fault[];
  readonly largeBytes: number;
}

export const extents: Readonly<Record<FaultBackend, Extent>> = {
  gloo: { worldSizes: [2, 3, 4], faults, largeBytes: 32 << 20 },
  // The emulator carries data in shared memory, which no cut of a network reaches, and is slow.
  nccl: { worldSizes: [2, 4], faults: faults.filter((fault) => fault !== "cut"), largeBytes: 4 << 20 },
};

/** Only a silent fault is detected by the time-out of the op. */
const SILENT_TIMEOUT_MS = 1_500;
const TIMEOUT_MS = 20_000;

/** Whether nothing notifies the others of the fault, so that they have to wait for their time-out. */
export function isSilent(fault: Fault): boolean {
  return fault === "SIGSTOP" || fault === "cut";
}

/** The whole matrix of a backend; the culprit rotates from cell to cell. */
export function allCells(backend: FaultBackend): Cell[] {
  const cells: Cell[] = [];
  const { worldSizes, faults, largeBytes } = extents[backend];
  for (const worldSize of worldSizes) {
    for (const fault of faults) {
      for (const op of ops) {
        for (const bytes of op === "barrier" ? [0] : [SMALL, largeBytes]) {
          for (const mode of modes) {
            const culprit = (cells.length >> 1) % worldSize;
            const timeoutMs = isSilent(fault) ? SILENT_TIMEOUT_MS : TIMEOUT_MS;
            cells.push({ backend, fault, op, mode, bytes, worldSize, culprit, timeoutMs });
          }
        }
      }
    }
  }
  return cells;
}

/**
 * A sample in which every fault occurs; over gloo also every op, mode, size and world size. It differs for each `turn`.
 */
export function sampleCells(backend: FaultBackend, turn: number): Cell[] {
  const cells = allCells(backend);
  const { worldSizes, faults } = extents[backend];
  const modesOf = (f: number): readonly Mode[] =>
    backend === "gloo" ? modes : modes.slice((turn + f) % 2).slice(0, 1);
  return faults.flatMap((fault, f) =>
    modesOf(f).map((mode, m) => {
      const op = ops[(turn + f + m) % ops.length];
      const worldSize = worldSizes[(turn + f + 2 * m) % worldSizes.length];
      const fitting = cells.filter((c) => c.fault === fault && c.mode === mode && c.op === op);
      const sized = fitting.filter((c) => c.worldSize === worldSize);
      const cell = sized[(turn + f) % sized.length];
      if (cell === undefined) throw new Error("the matrix has holes");
      return cell;
    }),
  );
}

export function nameOf({ backend, fault, op, mode, bytes, worldSize, culprit }: Cell): string {
  const size = bytes === 0 ? "-" : bytes <= SMALL ? `${bytes} B` : `${bytes >> 20} MB`;
  return `${fault} of rank ${culprit}/${worldSize}, ${op} ${size}, ${mode}, ${backend}`;
}
