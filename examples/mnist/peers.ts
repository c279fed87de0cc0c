/** What training needs from the other ranks; every method replaces `values`, on all ranks, with the combined ones. */
export interface Peers {
  readonly rank: number;
  readonly worldSize: number;
  average(values: Float32Array): Promise<void>;
  sum(values: Float64Array): Promise<void>;
  min(values: Int32Array): Promise<void>;
  max(values: Int32Array | Float64Array): Promise<void>;
}

/** A single rank, whose own values are the combined ones. */
export const alone: Peers = {
  rank: 0,
  worldSize: 1,
  average: async () => {},
  sum: async () => {},
  min: async () => {},
  max: async () => {},
};
