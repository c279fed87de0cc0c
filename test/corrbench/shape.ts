import type { ProcessGroup, Work } from "bun-c10d";
import type { Place } from "../desync/place.ts";
import type { Verdict } from "./verdict.ts";

export const modes = ["await", "wait"] as const;
export type Mode = (typeof modes)[number];

/** What a program is given on a rank. */
export interface Run {
  /** A group of all ranks, for this program alone. */
  readonly group: ProcessGroup;
  readonly rank: number;
  readonly size: number;
  /** Options of every op. */
  readonly limit: { readonly timeout: number };
  /** Waits for the end of an op, in the mode of the run. */
  end<T>(work: Work<T>): Promise<T>;
  /** Throws if a result is wrong. */
  expect(actual: unknown, expected: unknown): void;
}

export type Body = (run: Run) => Promise<void>;

/** Where, and on which rank, a program runs. */
export interface At {
  readonly rank: number;
  readonly size: number;
  readonly mode: Mode;
  readonly place: Place;
}

/** How a program with a fault is expected to end. */
export type End =
  /** What each rank says: one of these verdicts. Never do all of them finish. */
  | { readonly kind: "found"; readonly by: (at: At) => readonly Verdict[] }
  /** All ranks finish, and nothing tells of the fault. */
  | { readonly kind: "missed"; readonly reason: string }
  /** What is a fault in MPI is none here: all ranks finish, with right results. */
  | { readonly kind: "legal"; readonly reason: string };

/** A program with a fault, that of a program of MPI-CorrBench. */
export interface Faulty {
  /** Name in MPI-CorrBench, without its ending. */
  readonly program: string;
  readonly fault: string;
  readonly body: Body;
  readonly end: End | ((place: Place) => End);
  /** Whether it needs its own processes: it calls before `initProcessGroup`, or ends without `destroyProcessGroup`. */
  readonly alone?: "before init" | "without destroy";
}

/** A program of MPI-CorrBench that cannot be written with this package. */
export interface NotHere {
  readonly program: string;
  readonly fault: string;
  readonly notHere: string;
}

/** A correct program, and those of MPI-CorrBench that it stands for. */
export interface Correct {
  readonly name: string;
  readonly programs: readonly string[];
  readonly body: Body;
  /** Why it cannot run on some backends, by name of the backend. */
  readonly lacks?: Readonly<Record<string, string>>;
}

/** Correct programs of MPI-CorrBench that cannot be written with this package. */
export interface CorrectNotHere {
  readonly reason: string;
  readonly programs: readonly string[];
}

/** Whether a program can be written with this package. */
export function isHere(row: Faulty | NotHere): row is Faulty {
  return "body" in row;
}

export function endAt({ end }: Faulty, place: Place): End {
  return typeof end === "function" ? end(place) : end;
}
