/** A number that {@link pickle} writes as a Python float even if it is an integer, such as 2.0. */
export class PickleFloat {
  constructor(readonly value: number) {}
}

/** Values that {@link pickle} writes as a Python tuple. */
export class PickleTuple {
  constructor(readonly items: readonly PickleValue[]) {}
}

/**
 * What can be written as a pickle. An integer, a `number` or a `bigint`, becomes an `int`, any other number a `float`;
 * an array becomes a `list`, a `Map` or an object a `dict`, without the properties that are `undefined`.
 */
export type PickleValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | PickleFloat
  | PickleTuple
  | readonly PickleValue[]
  | ReadonlyMap<string | number | bigint, PickleValue>
  | { readonly [key: string]: PickleValue | undefined };

/** What a key of a dict can be. */
export type PickleKey = null | boolean | number | bigint | string;

/**
 * What is read from a pickle: an `int` is a `bigint` if no `number` holds it exactly, a `float` a `number`, a `list` or
 * `tuple` an array, a `dict` a `Map`, `bytes` a `Uint8Array`.
 */
export type UnpickledValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | UnpickledValue[]
  | Map<PickleKey, UnpickledValue>;
