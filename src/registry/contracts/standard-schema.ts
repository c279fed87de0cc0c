/**
 * The part of Standard Schema v1 (https://standardschema.dev) by which options are checked. Schemas of zod, valibot,
 * arktype and others have this shape; `Schema.toStandardSchemaV1` converts those of effect.
 */
export interface StandardSchema<Output> {
  readonly "~standard": {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => SchemaResult<Output> | Promise<SchemaResult<Output>>;
    readonly types?: { readonly input: unknown; readonly output: Output } | undefined;
    /** Standard JSON Schema, if the library supports it: provides the names of the options. */
    readonly jsonSchema?: { readonly input: (options: { readonly target: "draft-2020-12" }) => object };
  };
}

export type SchemaResult<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | { readonly issues: readonly SchemaIssue[] };

export interface SchemaIssue {
  readonly message: string;
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
}

/**
 * How a plugin checks the options that users give: a Standard Schema, or a function that returns the checked options or
 * throws an error that says what is wrong.
 */
export type OptionsSchema<Options> = StandardSchema<Options> | ((given: unknown) => Options);
