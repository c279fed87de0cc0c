import type { RankStatus } from "../../status/index.ts";

/** What a rank is in besides ops. */
export interface RankPhase {
  readonly name: string;
  /** The group that is closed, or of which one is made. */
  readonly group: string | undefined;
  readonly began: number;
  readonly callSite: string | undefined;
}

/** The groups that a rank is making and closing. */
export function phasesOf({ making, closing }: RankStatus): RankPhase[] {
  const { maker, parent, began = 0, callSite } = making ?? {};
  const phases: RankPhase[] = maker === undefined ? [] : [{ name: maker, group: parent, began, callSite }];
  if (closing !== undefined)
    phases.push({ name: "close", group: closing.group, began: closing.began, callSite: undefined });
  return phases;
}

export function phaseText({ name, group }: RankPhase): string {
  return name !== "close" || group === undefined ? name : `close on group "${group}"`;
}
