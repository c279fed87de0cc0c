import { InvalidArgumentError, messageOf } from "../errors/index.ts";
import { didYouMean } from "../errors/nearest-name.ts";
import type { BackendPlugin } from "./contracts/backend-plugin.ts";
import type { OptionsSchema, SchemaIssue, StandardSchema } from "./contracts/standard-schema.ts";
import { type SettleLimit, settledWithin } from "./services/settled-within.ts";

type Given = Readonly<Record<string, unknown>>;

/**
 * The checked options of each plugin. For several plugins (`"cpu:gloo,cuda:nccl"`) they are given by name:
 * `{ gloo: { threads: 4 }, nccl: { … } }`.
 *
 * @throws InvalidArgumentError (`INVALID_OPTION`) with the path of the invalid option.
 */
export async function checkBackendOptions(
  plugins: Iterable<BackendPlugin>,
  given: unknown,
  limit?: SettleLimit,
): Promise<ReadonlyMap<BackendPlugin, object>> {
  const distinct = [...new Set(plugins)];
  const [first] = distinct;
  if (first === undefined) return new Map();
  if (distinct.length === 1) return new Map([[first, await checkOptions(first, given, limit)]]);
  const byName = optionsObject("options", given);
  const names = distinct.map(({ name }) => name);
  for (const key of Object.keys(byName)) {
    if (names.includes(key)) continue;
    throw invalid(
      `options.${key}: with several backends (${names.join(", ")}) options are by backend, as in { ${names[0]}: { … } }`,
      key,
    );
  }
  const checked = new Map<BackendPlugin, object>();
  for (const plugin of distinct) checked.set(plugin, await checkOptions(plugin, byName[plugin.name], limit));
  return checked;
}

/**
 * The options of one plugin as its schema returns them; empty, without calling it, if none were given.
 * @param limit How long the plugin may take to make its schema, and the schema to check them; no limit by default.
 */
export async function checkOptions(plugin: BackendPlugin, given: unknown, limit?: SettleLimit): Promise<object> {
  const options = optionsObject(`options of backend "${plugin.name}"`, given);
  const [anyOption] = Object.keys(options);
  if (anyOption === undefined) return {};
  if (plugin.options === undefined) {
    throw invalid(`backend "${plugin.name}" takes no options, got options.${anyOption}`, anyOption, plugin);
  }
  const check = async () => {
    const schema = await plugin.options?.();
    // A schema may be a function too (arktype).
    if (schema !== undefined && isStandard(schema)) return checkByStandard(plugin, schema, options);
    return checkByFunction(plugin, schema as (given: unknown) => object, options);
  };
  if (limit === undefined) return check();
  const own = { ...limit, details: { ...limit.details, backend: plugin.name } };
  return settledWithin(`options() of backend "${plugin.name}", or its schema,`, check, own);
}

function optionsObject(what: string, given: unknown): Given {
  if (given === undefined) return {};
  if (typeof given !== "object" || given === null || Array.isArray(given)) {
    throw invalid(`${what} must be an object such as { threads: 4 }, got ${shown(given)}`, "options");
  }
  // `{ interface: process.env.IFNAME }` is no option if the variable is unset.
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
}

function isStandard(schema: OptionsSchema<object>): schema is StandardSchema<object> {
  return "~standard" in schema;
}

async function checkByStandard(plugin: BackendPlugin, schema: StandardSchema<object>, given: Given): Promise<object> {
  const json = jsonSchemaOf(schema);
  const known = knownNames(json);
  refuseUnknown(plugin, given, json);
  const result = await schema["~standard"].validate(given);
  if (result.issues !== undefined) throw refusal(plugin, result.issues, given);
  const { value } = result;
  // Schemas may drop unknown options, which would then have no effect.
  if (known === undefined) requireKnown(plugin, Object.keys(given), Object.keys(value));
  return value;
}

function checkByFunction(plugin: BackendPlugin, check: (given: unknown) => object, given: Given): object {
  try {
    return check(given);
  } catch (error) {
    if (error instanceof InvalidArgumentError) throw error;
    const reason = messageOf(error);
    throw invalid(`backend "${plugin.name}": wrong options: ${reason}`, "options", plugin, error);
  }
}

/** What the names in an object can be, in JSON Schema. */
interface ObjectSchema {
  readonly properties?: unknown;
  readonly patternProperties?: unknown;
  readonly additionalProperties?: unknown;
}

function jsonSchemaOf(schema: StandardSchema<object>): ObjectSchema | undefined {
  try {
    return schema["~standard"].jsonSchema?.input({ target: "draft-2020-12" });
  } catch {
    // Not every schema can be expressed in JSON Schema; it still validates the options.
    return undefined;
  }
}

/** Names of the options, if the schema can list them and accepts no others. */
function knownNames({
  properties,
  patternProperties,
  additionalProperties,
}: ObjectSchema = {}): readonly string[] | undefined {
  const others = patternProperties !== undefined || typeof additionalProperties === "object";
  return isRecord(properties) && !others ? Object.keys(properties) : undefined;
}

/** Refuses names that the schema does not have, also those in options that are objects. */
function refuseUnknown(plugin: BackendPlugin, given: Given, json: ObjectSchema | undefined, path = ""): void {
  requireKnown(plugin, Object.keys(given), knownNames(json), path);
  const properties = isRecord(json?.properties) ? json.properties : {};
  for (const [name, value] of Object.entries(given)) {
    const inner = properties[name];
    if (isRecord(value) && isRecord(inner)) refuseUnknown(plugin, value, inner, `${path}${name}.`);
  }
}

/** @param path Of the object that has the names: empty, or ends with a dot. */
function requireKnown(
  plugin: BackendPlugin,
  given: readonly string[],
  known: readonly string[] | undefined,
  path = "",
): void {
  const unknown = known && given.find((name) => !known.includes(name));
  if (unknown === undefined || known === undefined) return;
  const list = known.length === 0 ? "" : ` (known are ${known.join(", ")})`;
  throw invalid(
    `backend "${plugin.name}": unknown option ${path}${unknown}${list}${didYouMean(unknown, known)}`,
    `${path}${unknown}`,
    plugin,
  );
}

function isRecord(value: unknown): value is Given {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function refusal(plugin: BackendPlugin, issues: readonly SchemaIssue[], given: Given): InvalidArgumentError {
  const all = issues.map(({ message, path = [] }) => {
    const keys = path.map((segment) => (typeof segment === "object" ? segment.key : segment));
    return { path: pathText(keys), text: `${message}, got ${shown(valueAt(given, keys))}` };
  });
  // One issue per value is enough.
  const lines = all.filter(({ path }, i) => all.findIndex((each) => each.path === path) === i);
  const where = `backend "${plugin.name}": `;
  const [first = { path: "", text: "refused without a reason" }] = lines;
  const name = (path: string): string => (path === "" ? "options" : `option ${path}`);
  const text =
    lines.length <= 1
      ? `${name(first.path)}: ${first.text}`
      : `wrong options:${lines.map((line) => `\n  ${name(line.path)}: ${line.text}`).join("")}`;
  return invalid(where + text, first.path || "options", plugin);
}

function pathText(keys: readonly PropertyKey[]): string {
  return keys.map((key, i) => (typeof key === "number" ? `[${key}]` : `${i > 0 ? "." : ""}${String(key)}`)).join("");
}

function valueAt(root: unknown, keys: readonly PropertyKey[]): unknown {
  return keys.reduce<unknown>(
    (value, key) => (typeof value === "object" && value !== null ? Reflect.get(value, key) : undefined),
    root,
  );
}

function shown(value: unknown): string {
  if (typeof value === "number" || typeof value === "bigint" || value === undefined) return String(value);
  if (typeof value === "function") return "a function";
  try {
    const text = JSON.stringify(value) ?? String(value);
    return text.length > 80 ? `${text.slice(0, 77)}…` : text;
  } catch {
    return Object.prototype.toString.call(value);
  }
}

function invalid(message: string, argument: string, plugin?: BackendPlugin, cause?: unknown): InvalidArgumentError {
  return new InvalidArgumentError(message, {
    code: "INVALID_OPTION",
    argument,
    ...(plugin && { backend: plugin.name }),
    ...(cause !== undefined && { cause }),
  });
}
