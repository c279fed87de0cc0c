/** Its constructor may be private. */
type Class = { readonly prototype: object };

const ordinary = Function.prototype[Symbol.hasInstance];

/**
 * Lets `instanceof` recognise instances made by another copy of this package: another version in `node_modules`, or
 * modules that `bun --hot` loaded before. Subclasses that a user defines keep the ordinary check.
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
