import * as Schema from "effect/Schema";
import type { StandardSchema } from "../../registry/index.ts";
import type { GlooOptions } from "./options.ts";

const struct = Schema.Struct({
  host: Schema.optionalKey(Schema.String),
  interface: Schema.optionalKey(Schema.String),
  threads: Schema.optionalKey(
    Schema.Int.check(
      Schema.isBetween({ minimum: 1, maximum: 64 }, { message: "Expected a number of threads from 1 to 64" }),
    ),
  ),
});

/** Checks {@link GlooOptions}. */
export const schema: StandardSchema<GlooOptions> = Schema.toStandardJSONSchemaV1(
  Schema.toStandardSchemaV1(struct, { parseOptions: { errors: "all" } }),
);
