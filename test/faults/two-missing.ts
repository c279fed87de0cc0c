export interface TwoMissingArgs {
  readonly backend: string;
  readonly mode: "await" | "wait";
  readonly missing: readonly number[];
}

/** What another rank got, and the sum of the ranks of the group that it then made. */
export interface TwoMissingResult {
  readonly peers: readonly number[];
  readonly message: string;
  readonly sum: number | undefined;
}
