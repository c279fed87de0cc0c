import type { RankTone } from "./snapshot.ts";

/** What marks a rank besides its colour. */
export const marks: Readonly<Record<RankTone, readonly [mark: string, words: string]>> = {
  late: ["!", "others wait for it"],
  failed: ["×", "it or its last op has failed"],
  waiting: ["…", "it waits"],
  ended: ["■", "it has ended"],
  calm: ["", ""],
};

const meanings: ReadonlyMap<string, string> = new Map([
  ["not started", "it has not called initProcessGroup, or it is a rank of PyTorch"],
  ["ended", "its process has ended"],
  ["closed", "it has closed its groups, or its initProcessGroup has failed; its process goes on"],
  ["stopped", "its process is stopped, as by SIGSTOP, Ctrl+Z or a debugger"],
  ["in op", "it has called an op that has not ended"],
  ["connecting", "it waits for the others in initProcessGroup, newGroup or splitGroup"],
  ["closing", "it waits in destroyProcessGroup"],
  ["running", "it is in no op, and its process computes"],
  ["idle", "it is in no op, and its process sleeps: it waits for something else"],
]);

/** A state of a rank with what it means. */
export function stateTitle(state: string): string {
  const meaning = meanings.get(state);
  return meaning === undefined ? state : `${state}: ${meaning}`;
}
