/** Values of an array of jax-js; those of dtype bool are an Int32Array. */
export type ArrayValues = Float32Array | Float64Array | Float16Array | Int32Array | Uint32Array;

/** What is used of a `jax.Array`. */
export interface JaxArray {
  readonly shape: number[];
  readonly dtype: string;
  readonly device: string;
  /** Another reference; each is used up by one call that takes the array. */
  readonly ref: JaxArray;
  /** Its values, in memory of their own. Uses up the array. */
  data(): Promise<ArrayBufferView>;
  dispose(): void;
}

/** What is used of the namespace of `@jax-js/jax`. */
export interface Jax {
  readonly numpy: {
    /** Copies `values`, which are {@link ArrayValues}. Every type of its parameter takes `never`. */
    array(values: never, options?: { shape?: number[]; dtype?: string; device?: string }): JaxArray;
  };
  defaultDevice(): string;
}
