/** Its constructor may be private. */
type Class = { readonly prototype: object };

const ordinary = Function.prototype[Symbol.hasInstance];

/**
 * Lets `instanceof` recognise what the same class of another copy of this package has made: two versions in one
 * `node_modules`, or the modules that `bun --hot` has loaded before. Subclasses of a user's own stay as they are.
 *
 * @param name Name of the class in this package.
 */
export function brand(ownClass: Class, name: string): void {
  const key = Symbol.for(`bun-c10d.${name}`);
  Object.defineProperty(ownClass.prototype, key, { value: true });
  Object.defineProperty(ownClass, Symbol.hasInstance, {
    value(this: unknown, value: unknown): boolean {
      if (this !== ownClass) return ordinary.call(this as () => unknown, value);
      return typeof value === "object" && value !== null && key in value;
    },
  });
}
