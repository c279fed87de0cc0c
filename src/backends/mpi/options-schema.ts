import * as Schema from "effect/Schema";
import type { StandardSchema } from "../../registry/index.ts";
import type { MpiOptions } from "./options.ts";

const struct = Schema.Struct({
  implementation: Schema.optionalKey(Schema.Literals(["openmpi", "mpich"])),
  threads: Schema.optionalKey(Schema.Literals(["multiple", "single"])),
  mixed: Schema.optionalKey(Schema.Boolean),
  maxCount: Schema.optionalKey(
    Schema.Int.check(
      Schema.isBetween({ minimum: 1, maximum: 2 ** 31 - 1 }, { message: "Expected a number from 1 to 2147483647" }),
    ),
  ),
});

/** Checks {@link MpiOptions}. */
export const schema: StandardSchema<MpiOptions> = Schema.toStandardJSONSchemaV1(
  Schema.toStandardSchemaV1(struct, { parseOptions: { errors: "all" } }),
);
