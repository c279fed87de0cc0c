/**
 * Generates what TypeScript and native code share:
 * - src/native/abi.generated.ts, from native/c10d.h: enums, and the byte offsets of the structs' fields
 * - native/ops/names.generated.h, from the op table, the reduce ops and the device types
 *
 *   bun scripts/generate-abi.ts          writes the files
 *   bun scripts/generate-abi.ts --check  fails if a file is out of date
 *
 * Either way it fails if the numbers of ops, dtypes, reduce ops and devices differ between c10d.h and the tables.
 */
import { type OpName, operations, opTable } from "../src/collectives/op-table.ts";
import { OpType } from "../src/collectives/op-type.ts";
import { reduceOpCodes } from "../src/collectives/reduce-op.ts";
import { deviceTypeCodes } from "../src/tensor/device.ts";
import { dtypes } from "../src/tensor/dtype.ts";

const header = await Bun.file(new URL("../native/c10d.h", import.meta.url)).text();

const enums = {
  c10d_status: "Status",
  c10d_mismatch: "Mismatch",
  c10d_state: "GroupStateCode",
  c10d_event_kind: "EventKind",
  c10d_service: "Service",
};
const structs = {
  c10d_event: "EventLayout",
  c10d_op: "OpLayout",
  c10d_config: "ConfigLayout",
  c10d_failure: "FailureLayout",
  c10d_capabilities: "CapabilitiesLayout",
  c10d_stats: "StatsLayout",
};
const flags = { c10d_op: "OpFlag", c10d_event: "EventFlag", c10d_capabilities: "CapabilityFlag" };
const prefixes = [
  "C10D_OP_",
  "C10D_ERR_",
  "C10D_EVENT_",
  "C10D_FLAG_",
  "C10D_MISMATCH_",
  "C10D_SERVICE_",
  "C10D_DEVICE_",
  "C10D_CAN_",
  "C10D_",
];
const fieldBytes: Readonly<Record<string, number>> = { uint32_t: 4, int32_t: 4, uint64_t: 8, double: 8 };

/** Ops that share the number of another one, with the flag that distinguishes them. */
const flaggedOps: { readonly [op in OpName]?: string } = { monitoredBarrier: "C10D_FLAG_MONITORED" };

const codes = Object.entries(OpType).filter(([name, code]) => typeof code === "number" && name !== "UNKNOWN");
requireAlike("c10d_opcode", Object.fromEntries(codes));
requireAlike(
  "c10d_dtype",
  Object.fromEntries(Object.values(dtypes).map(({ name, code }) => [name.toUpperCase(), code])),
);
requireAlike("c10d_reduce_op", reduceOpCodes);
requireAlike(
  "c10d_device_type",
  Object.fromEntries(Object.entries(deviceTypeCodes).map(([name, code]) => [name.toUpperCase(), code])),
);

const files = { "src/native/abi.generated.ts": abiText(), "native/ops/names.generated.h": namesText() };
for (const [path, text] of Object.entries(files)) {
  const file = Bun.file(new URL(`../${path}`, import.meta.url));
  if (!process.argv.includes("--check")) await file.write(text);
  else if (!(await file.exists()) || (await file.text()) !== text) {
    console.error(`${path} is out of date: run \`bun scripts/generate-abi.ts\``);
    process.exitCode = 1;
  }
}

/** Fails unless an enum of c10d.h has these names and numbers. */
function requireAlike(name: string, table: Readonly<Record<string, unknown>>): void {
  const own = Object.entries(table).map(([each, code]) => `  ${each}: ${code},`);
  const native = members(enumBody(name));
  const odd = [...own.filter((line) => !native.includes(line)), ...native.filter((line) => !own.includes(line))];
  if (odd.length === 0) return;
  console.error(`${name} in native/c10d.h and its table in TypeScript differ in\n${odd.join("\n")}`);
  process.exit(1);
}

function abiText(): string {
  const lines = ["// Generated from native/c10d.h by scripts/generate-abi.ts. Do not edit.", ""];
  lines.push(`export const ABI_VERSION = ${match(/#define C10D_ABI_VERSION (\d+)/)};`, "");
  for (const [name, title] of Object.entries(enums)) lines.push(...enumLines(name, title), "");
  for (const [name, title] of Object.entries(flags)) lines.push(...flagLines(name, title), "");
  for (const [name, title] of Object.entries(structs)) lines.push(...layoutLines(name, title), "");
  return lines.join("\n");
}

function namesText(): string {
  // An op that shares its number with the op that it is made of never reaches native code.
  const isMade = (op: OpName): boolean => opTable[op].opType === opTable[opTable[op].perRank ?? "refused"].opType;
  const collectives = operations.filter((op) => opTable[op].kind === "collective" && !isMade(op));
  const isFlagged = (op: OpName): boolean => flaggedOps[op] !== undefined;
  const cases = collectives
    .filter((op) => !isFlagged(op))
    .map((op) => {
      const { opType } = opTable[op];
      const flagged = collectives
        .filter((other) => isFlagged(other) && opTable[other].opType === opType)
        .map((other) => `(flags & ${flaggedOps[other]}) != 0 ? "${other}" : `);
      return `    case C10D_OP_${OpType[opType]}:\n      return ${flagged.join("")}"${op}";`;
    });
  const [highest = ""] = codes.toSorted(([, a], [, b]) => Number(b) - Number(a))[0] ?? [];
  const devices = Object.keys(deviceTypeCodes).map(
    (name) => `    case C10D_DEVICE_${name.toUpperCase()}:\n      return "${name}";`,
  );
  const reduceOps = Object.keys(reduceOpCodes).map((name) => `    case C10D_${name}:\n      return "${name}";`);
  return `// Generated from the op table, the reduce ops and the device types of src by scripts/generate-abi.ts. Do not edit.
#pragma once

#include <cstdint>

#include "c10d.h"

namespace c10d {

/// The last of c10d_opcode.
constexpr uint32_t kHighestOpcode = C10D_OP_${highest};

/// Name of a device type; nullptr for any other number.
constexpr const char* device_type_name(uint32_t type) {
  switch (type) {
${devices.join("\n")}
    default:
      return nullptr;
  }
}

/// Name of a reduce op; nullptr for any other number.
constexpr const char* reduce_op_name(uint32_t reduce_op) {
  switch (reduce_op) {
${reduceOps.join("\n")}
    default:
      return nullptr;
  }
}

/// Name of a collective in the op table.
inline const char* collective_name(uint32_t opcode, uint32_t flags) {
  switch (opcode) {
${cases.join("\n")}
    default:
      return "an unknown collective";
  }
}

}  // namespace c10d
`;
}

function enumBody(name: string): string {
  return match(new RegExp(`typedef enum ${name} \\{([\\s\\S]*?)\\} ${name};`));
}

function enumLines(name: string, title: string): string[] {
  return [`export const ${title} = {`, ...members(enumBody(name)), "} as const;"];
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
