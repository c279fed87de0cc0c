import fake from "../backends/fake/plugin.ts";
import { type BackendPlugin, backendTypeOf } from "../registry/index.ts";

/**
 * The `fake` backend under another backend's name, to take its place in unit tests of an application that asks for it:
 *
 * ```ts
 * createContainer({ overrides: [fakeInPlaceOf("gloo")], install: true });
 * ```
 */
export function fakeInPlaceOf(name: string): BackendPlugin {
  const { module: _, ...plugin } = fake;
  return { ...plugin, name, type: backendTypeOf(name) };
}
