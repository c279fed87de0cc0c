import fake from "../backends/fake/plugin.ts";
import { describe, InvalidArgumentError } from "../errors/index.ts";
import { type BackendPlugin, backendTypeOf } from "../registry/index.ts";

/**
 * The `fake` backend under another backend's name, to take its place in unit tests of an application that asks for it:
 *
 * ```ts
 * createContainer({ overrides: [fakeInPlaceOf("gloo")], install: true });
 * ```
 */
export function fakeInPlaceOf(name: string): BackendPlugin {
  if (typeof name !== "string") {
    throw new InvalidArgumentError(
      `fakeInPlaceOf: name must be that of a backend, such as "gloo", got ${describe(name)}`,
      {
        argument: "name",
      },
    );
  }
  const { module: _, ...plugin } = fake;
  return { ...plugin, name, type: backendTypeOf(name) };
}
