/** Name of the default group, also before there is one. The page imports this too. */
export const DEFAULT_GROUP = "0";

/** The text of an op in fewer columns: the default group is not named. */
export function shortOp(text: string): string {
  return text.replace(` on group "${DEFAULT_GROUP}"`, "").replace(/ on group (?=")/, " on ");
}
