import * as Schema from "effect/Schema";
import type { StandardSchema } from "../../registry/index.ts";
import type { FakeOptions } from "./options.ts";

const ofMode: Readonly<Record<"local" | "solo", readonly (keyof FakeOptions)[]>> = {
  local: ["seed"],
  solo: ["errorOnCollective", "delayMs", "failAt"],
};

const struct = Schema.Struct({
  mode: Schema.optionalKey(Schema.Literals(["local", "solo"])),
  seed: Schema.optionalKey(Schema.Int.check(Schema.isGreaterThanOrEqualTo(0))),
  errorOnCollective: Schema.optionalKey(Schema.Boolean),
  delayMs: Schema.optionalKey(Schema.Number.check(Schema.isGreaterThanOrEqualTo(0))),
  failAt: Schema.optionalKey(Schema.Int.check(Schema.isGreaterThanOrEqualTo(1))),
}).check(
  Schema.makeFilter(({ mode = "local", ...options }: FakeOptions) =>
    ofMode[mode === "solo" ? "local" : "solo"]
      .filter((name) => name in options)
      .map((name) => ({ path: [name], issue: `Expected to be left out in mode "${mode}"` })),
  ),
);

/** Checks {@link FakeOptions}. */
export const schema: StandardSchema<FakeOptions> = Schema.toStandardJSONSchemaV1(
  Schema.toStandardSchemaV1(struct, { parseOptions: { errors: "all" } }),
);
