/**
 * Makes src/native/abi.generated.ts from native/c10d.h: enums, and the byte offsets of the structs' fields.
 *
 *   bun scripts/generate-abi.ts          writes the file
 *   bun scripts/generate-abi.ts --check  fails if the file is not what it should be
 */
const header = await Bun.file(new URL("../native/c10d.h", import.meta.url)).text();
const target = new URL("../src/native/abi.generated.ts", import.meta.url);

const enums = { c10d_opcode: "Opcode", c10d_dtype: "DTypeCode", c10d_reduce_op: "ReduceOpCode", c10d_status: "Status" };
const moreEnums = { c10d_state: "GroupStateCode", c10d_event_kind: "EventKind" };
const structs = {
  c10d_event: "EventLayout",
  c10d_op: "OpLayout",
  c10d_config: "ConfigLayout",
  c10d_stats: "StatsLayout",
};
const flags = { c10d_op: "OpFlag", c10d_event: "EventFlag" };
const prefixes = ["C10D_OP_", "C10D_ERR_", "C10D_EVENT_", "C10D_FLAG_", "C10D_"];
const fieldBytes: Readonly<Record<string, number>> = { uint32_t: 4, int32_t: 4, uint64_t: 8, double: 8 };

const lines = ["// Generated from native/c10d.h by scripts/generate-abi.ts. Do not edit.", ""];
lines.push(`export const ABI_VERSION = ${match(/#define C10D_ABI_VERSION (\d+)/)};`, "");
for (const [name, title] of Object.entries({ ...enums, ...moreEnums })) lines.push(...enumLines(name, title), "");
for (const [name, title] of Object.entries(flags)) lines.push(...flagLines(name, title), "");
for (const [name, title] of Object.entries(structs)) lines.push(...layoutLines(name, title), "");
const text = lines.join("\n");

if (process.argv.includes("--check")) {
  const file = Bun.file(target);
  if (!(await file.exists()) || (await file.text()) !== text) {
    console.error("src/native/abi.generated.ts is out of date: run `bun scripts/generate-abi.ts`");
    process.exit(1);
  }
} else {
  await Bun.write(target, text);
}

function enumLines(name: string, title: string): string[] {
  const body = match(new RegExp(`typedef enum ${name} \\{([\\s\\S]*?)\\} ${name};`));
  return [`export const ${title} = {`, ...members(body), "} as const;"];
}

function flagLines(name: string, title: string): string[] {
  const body = match(new RegExp(`Bits of ${name}\\.flags[^\n]*\nenum \\{([\\s\\S]*?)\\};`));
  return [`export const ${title} = {`, ...members(body), "} as const;"];
}

function members(body: string): string[] {
  return [...body.matchAll(/(C10D_\w+) = (-?\d+)/g)].map(([, name = "", value]) => {
    const prefix = prefixes.find((p) => name.startsWith(p)) ?? "";
    return `  ${name.slice(prefix.length)}: ${value},`;
  });
}

function layoutLines(name: string, title: string): string[] {
  const body = match(new RegExp(`typedef struct ${name} \\{([\\s\\S]*?)\\} ${name};`)).replace(/\/\*[\s\S]*?\*\//g, "");
  const fields: string[] = [];
  let offset = 0;
  for (const [, type = "", field = ""] of body.matchAll(/(\w+) (\w+);/g)) {
    const bytes = fieldBytes[type];
    if (bytes === undefined) throw new Error(`${name}.${field}: unknown type ${type}`);
    if (offset % bytes !== 0) throw new Error(`${name}.${field} is not aligned: order the fields by size`);
    fields.push(`  ${field.replace(/_(\w)/g, (_, c: string) => c.toUpperCase())}: ${offset},`);
    offset += bytes;
  }
  return [`export const ${title} = {`, ...fields, `  SIZE: ${offset},`, "} as const;"];
}

function match(pattern: RegExp): string {
  const found = pattern.exec(header);
  if (found?.[1] === undefined) throw new Error(`native/c10d.h has no ${pattern}`);
  return found[1];
}
