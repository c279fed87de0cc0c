/**
 * The options of each backend by its name, for the types of `initProcessGroup()` and `newGroup()`. A backend adds its
 * own:
 *
 * ```ts
 * declare module "bun-c10d" {
 *   interface BackendOptionsByName { readonly mine: MyOptions }
 * }
 * ```
 */
// biome-ignore lint/suspicious/noEmptyInterface: backends add to it.
export interface BackendOptionsByName {}

/** The options for a `backend` argument; any options if its type does not name one backend. */
export type OptionsOf<Name extends string> = Name extends keyof BackendOptionsByName
  ? BackendOptionsByName[Name]
  : Readonly<Record<string, unknown>>;
