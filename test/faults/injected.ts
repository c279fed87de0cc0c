import type { ReportedError } from "bun-c10d/testing";
import type { Mode } from "./cell.ts";

/** The op, from 0, at which the fault is. */
export const FAULTY_OP = 3;
/** Rank of the fault. */
export const FAULTY_RANK = 1;
/** Time-out of the ops, and of making the group. */
export const LIMIT_MS = 1_500;

interface Injection {
  /** What the emulator is told: `NCCL_EMULATOR_FAULTS`. */
  readonly emulator: string;
  /** When it shows. */
  readonly at: "creation" | "op" | "never";
  /** Class and code of the error of the rank with the fault, and of that of the others. */
  readonly own: string;
  readonly others: string;
  /** Whether the errors of the others name the rank. */
  readonly isNamed: boolean;
  /** Part of the message of the rank with the fault. */
  readonly says: string;
}

const faulty = `rank=${FAULTY_RANK}`;

/** What the emulator of NCCL does on one rank, and an abort there. */
export const injections = {
  "an asynchronous error": {
    emulator: `${faulty},async-error@${FAULTY_OP}`,
    at: "op",
    own: "DistBackendError BACKEND_ERROR",
    others: "DistNetworkError PEER_LOST",
    isNamed: true,
    says: "ncclResult 2",
  },
  "an error of a call": {
    emulator: `${faulty},internal@${FAULTY_OP}`,
    at: "op",
    own: "DistBackendError BACKEND_ERROR",
    others: "DistNetworkError PEER_LOST",
    isNamed: true,
    says: "ncclResult 3",
  },
  "an op that never ends": {
    emulator: `hang@${FAULTY_OP}`,
    at: "op",
    own: "DistTimeoutError OP_TIMEOUT",
    others: "DistTimeoutError OP_TIMEOUT",
    isNamed: false,
    says: "timed out",
  },
  "an abort": {
    emulator: "",
    at: "op",
    own: "DistBackendError ABORTED",
    others: "DistNetworkError PEER_LOST",
    isNamed: true,
    says: "aborted on purpose",
  },
  "an error while the group is made": {
    emulator: `${faulty},init-error`,
    at: "creation",
    own: "DistBackendError BACKEND_ERROR",
    others: "DistNetworkError PEER_LOST",
    isNamed: true,
    says: "ncclResult 2",
  },
  "a rank that is slow to make the group": {
    emulator: `${faulty},slow-init=700`,
    at: "never",
    own: "",
    others: "",
    isNamed: false,
    says: "",
  },
} as const satisfies Readonly<Record<string, Injection>>;

export type InjectionName = keyof typeof injections;

export const injectionNames = Object.keys(injections) as readonly InjectionName[];

export function injectionOf(name: InjectionName): Injection {
  return injections[name];
}

export interface InjectedArgs {
  readonly name: InjectionName;
  readonly mode: Mode;
}

/** What a rank saw. */
export interface InjectedResult {
  /** Ops that ended well, with a right result. */
  readonly ended: number;
  readonly error: ReportedError | undefined;
  /** From the start of the op, or of making the group, to its error. */
  readonly ms: number;
  /** Code of the error of the next op; undefined if there is no group. */
  readonly next: string | undefined;
  readonly misuse: string | undefined;
  readonly destroyMs: number;
}
