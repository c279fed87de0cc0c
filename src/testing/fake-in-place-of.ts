import fake from "../backends/fake/plugin.ts";
import { capabilities as gloo } from "../backends/gloo/capabilities.ts";
import { capabilities as mpi } from "../backends/mpi/capabilities.ts";
import { capabilities as ucc } from "../backends/ucc/capabilities.ts";
import { describe, InvalidArgumentError } from "../errors/index.ts";
import { type BackendPlugin, backendTypeOf, type Capabilities, commonCapabilities } from "../registry/index.ts";

const builtIn: Readonly<Record<string, Capabilities>> = { gloo, mpi, ucc };

/**
 * The `fake` backend under another backend's name, to take its place in unit tests of an application that asks for it:
 *
 * ```ts
 * createContainer({ overrides: [fakeInPlaceOf("gloo")], install: true });
 * ```
 *
 * In the place of a backend of the package it claims what that one does: an op, a dtype or a reduce op that the other refuses is
 * refused here too.
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
  const claimed = Object.hasOwn(builtIn, name) ? builtIn[name] : undefined;
  const capabilities = commonCapabilities([fake.capabilities, claimed ?? fake.capabilities]);
  return { ...plugin, name, type: backendTypeOf(name), capabilities };
}
