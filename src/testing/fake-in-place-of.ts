import fake from "../backends/fake/plugin.ts";
import { capabilities as gloo } from "../backends/gloo/capabilities.ts";
import { capabilities as mpi } from "../backends/mpi/capabilities.ts";
import { capabilities as ucc } from "../backends/ucc/capabilities.ts";
import { describe, InvalidArgumentError } from "../errors/index.ts";
import {
  type BackendPlugin,
  backendTypeOf,
  type Capabilities,
  commonCapabilities,
  type StandardSchema,
} from "../registry/index.ts";

type AnySchema = StandardSchema<object>;

const ownOptions = async () => (await import("../backends/fake/options-schema.ts")).schema;

const builtIn: Readonly<Record<string, { capabilities: Capabilities; options?(): Promise<AnySchema> }>> = {
  gloo: { capabilities: gloo, options: async () => (await import("../backends/gloo/options-schema.ts")).schema },
  mpi: { capabilities: mpi, options: async () => (await import("../backends/mpi/options-schema.ts")).schema },
  ucc: { capabilities: ucc },
};

/**
 * The `fake` backend under another backend's name, to replace it in unit tests of an application that requests it:
 *
 * ```ts
 * createContainer({ overrides: [fakeInPlaceOf("gloo")], install: true });
 * ```
 *
 * In place of a backend of the package it reports the capabilities of that backend: an op, a dtype or a reduce op that
 * the other refuses is refused here too. It takes the options of the other, which are checked and have no effect, as
 * well as those of `fake`.
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
  const replaced = Object.hasOwn(builtIn, name) ? builtIn[name] : undefined;
  const capabilities = commonCapabilities([fake.capabilities, replaced?.capabilities ?? fake.capabilities]);
  const { options } = replaced ?? {};
  return {
    ...plugin,
    name,
    type: backendTypeOf(name),
    capabilities,
    ...(options !== undefined && { options: async () => beside(await ownOptions(), await options()) }),
  };
}

/** Takes the options of both schemas, which share no name, and returns those of the first. */
function beside<Options extends object>(
  effective: StandardSchema<Options>,
  ignored: AnySchema,
): StandardSchema<Options> {
  const names = Object.keys(propertiesOf(ignored));
  return {
    "~standard": {
      version: 1,
      vendor: "bun-c10d",
      async validate(value) {
        const options = Object.entries(value as object);
        const [own, others] = [false, true].map((isTheirs) =>
          Object.fromEntries(options.filter(([option]) => names.includes(option) === isTheirs)),
        );
        const [result, unused] = [
          await effective["~standard"].validate(own),
          await ignored["~standard"].validate(others),
        ];
        const issues = [...(result.issues ?? []), ...(unused.issues ?? [])];
        return issues.length > 0 || result.issues !== undefined ? { issues } : result;
      },
      jsonSchema: { input: () => ({ properties: { ...propertiesOf(ignored), ...propertiesOf(effective) } }) },
    },
  };
}

function propertiesOf(schema: AnySchema): object {
  const json: { properties?: object } | undefined = schema["~standard"].jsonSchema?.input({ target: "draft-2020-12" });
  return json?.properties ?? {};
}
