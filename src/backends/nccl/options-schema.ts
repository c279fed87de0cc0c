import * as Schema from "effect/Schema";
import type { StandardSchema } from "../../registry/index.ts";
import { configFields } from "./config-fields.ts";
import type { NcclConfig, NcclOptions } from "./options.ts";

/** Any int, as in `ncclConfig_t`; NCCL checks what it means. */
const integer = Schema.Int.check(
  Schema.isBetween({ minimum: 0, maximum: 2 ** 31 - 2 }, { message: "Expected an integer from 0 to 2147483646" }),
);
/** It is passed to C. */
const text = Schema.String.check(
  Schema.makeFilter((value: string) =>
    value === "" || value.includes("\0") ? "Expected text without NUL" : undefined,
  ),
);
const kinds = { flag: Schema.Boolean, integer, text } as const;

const config = Schema.Struct(
  Object.fromEntries(
    Object.entries(configFields).map(([name, { kind }]) => [name, Schema.optionalKey<Schema.Top>(kinds[kind])]),
  ),
) as unknown as Schema.Codec<NcclConfig>;

const struct = Schema.Struct({
  config: Schema.optionalKey(config),
  isHighPriorityStream: Schema.optionalKey(Schema.Boolean),
  library: Schema.optionalKey(text),
  eager: Schema.optionalKey(Schema.Boolean),
});

/** Checks {@link NcclOptions}. */
export const schema: StandardSchema<NcclOptions> = Schema.toStandardJSONSchemaV1(
  Schema.toStandardSchemaV1(struct, { parseOptions: { errors: "all", onExcessProperty: "error" } }),
);
