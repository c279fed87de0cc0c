import { collectiveFaults } from "./collective-faults.ts";
import { correctCollectives } from "./correct-collectives.ts";
import { correctMessages } from "./correct-messages.ts";
import { messageFaults, moreFaults } from "./message-faults.ts";
import { type Correct, type Faulty, isHere } from "./shape.ts";

/** The programs of MPI-CorrBench with a fault that exist here. */
export const faulty: readonly Faulty[] = [...collectiveFaults, ...messageFaults].filter(isHere);
export const correct: readonly Correct[] = [...correctCollectives, ...correctMessages];

export type Program = Faulty | Correct;

export const programs: ReadonlyMap<string, Program> = new Map(
  [...faulty, ...moreFaults, ...correct].map((program) => [nameOf(program), program]),
);

export function nameOf(program: Program): string {
  return "name" in program ? program.name : program.program;
}

export function programOf(name: string): Program {
  const program = programs.get(name);
  if (program === undefined) throw new Error(`no program is called ${name}`);
  return program;
}

export function isFaulty(program: Program): program is Faulty {
  return "end" in program;
}
