import { describe, InvalidArgumentError } from "../../errors/index.ts";
import type { JaxArray } from "./jax-interface.ts";

/** An array of a pytree, named by its path, such as `layers.0.kernel`. */
export interface Leaf {
  readonly name: string;
  readonly array: JaxArray;
}

/**
 * The arrays of a pytree, depth first. Two have one name where a key has a point in it.
 *
 * @param what Name of the argument, for messages.
 * @throws InvalidArgumentError for what is neither an array of jax-js nor a list or plain object of such.
 */
export function leavesOf(tree: unknown, what: string): Leaf[] {
  const leaves: Leaf[] = [];
  mapTree(tree, what, (leaf) => {
    leaves.push(leaf);
    return leaf.array;
  });
  return leaves;
}

/** A pytree of the same structure with other arrays. */
export function mapTree<T>(tree: T, what: string, map: (leaf: Leaf) => JaxArray): T {
  const visit = (node: unknown, path: string): unknown => {
    if (isArray(node)) return map({ name: path === "" ? what : path, array: node });
    const below = (key: string | number) => (path === "" ? String(key) : `${path}.${key}`);
    if (Array.isArray(node)) return node.map((each, index) => visit(each, below(index)));
    if (isPlain(node)) {
      return Object.fromEntries(Object.entries(node).map(([key, each]) => [key, visit(each, below(key))]));
    }
    throw new InvalidArgumentError(
      `${what} must be a pytree: arrays of jax-js in lists and plain objects; ${path === "" ? "it" : path} is ${describe(node)}`,
      { argument: what },
    );
  };
  return visit(tree, "") as T;
}

function isArray(node: unknown): node is JaxArray {
  const array = node as Partial<JaxArray> | null | undefined;
  return typeof array === "object" && typeof array?.data === "function" && Array.isArray(array.shape);
}

function isPlain(node: unknown): node is object {
  if (typeof node !== "object" || node === null) return false;
  const prototype: unknown = Object.getPrototypeOf(node);
  return prototype === null || prototype === Object.prototype;
}
