/**
 * Writes the op table and the capability tables of the built-in backends into docs/backends.md.
 *
 *   bun scripts/generate-capability-table.ts          writes the page
 *   bun scripts/generate-capability-table.ts --check  fails if the page is out of date
 */
import { madeOf, type OpRow, operations, opTable, singleOf } from "../src/collectives/op-table.ts";
import { builtInBackends } from "../src/registry/built-in-backends.ts";
import { type BackendPlugin, dtypesText, features, summarize } from "../src/registry/index.ts";
import { dtypeNames } from "../src/tensor/index.ts";

export const page: URL = new URL("../docs/backends.md", import.meta.url);

/** The page with its tables updated. */
export async function withCapabilityTables(text: string): Promise<string> {
  return replaced(replaced(text, "op table", opsTable()), "capability tables", await capabilityTables());
}

/** The page with new content between two markers. */
function replaced(text: string, what: string, content: string): string {
  const [begin, end] = [`<!-- ${what}: begin -->\n`, `<!-- ${what}: end -->\n`];
  const [before, rest] = split(text, begin);
  const [, after] = split(rest, end);
  return `${before}${begin}\n${content}\n${end}${after}`;
}

function opsTable(): string {
  const side = (name: OpRow["inputs"]): string => (name === "none" ? "–" : `\`${name}\``);
  return table(
    ["op", "inputs", "outputs", "terms", "several at once", "made of"],
    operations.map((op) => {
      const row = opTable[op];
      return [
        `\`${op}\``,
        side(row.inputs),
        side(row.outputs),
        termsOf(row),
        row.coalesced ? `\`${row.coalesced}\`` : "–",
        row.perRank ? `\`${row.perRank}\`` : singleOf(op) ? `\`${singleOf(op)}\`` : "–",
      ];
    }),
  );
}

function termsOf(row: OpRow): string {
  const terms = [
    row.kind === "message" ? ["`peer`", "`tag`"] : [],
    row.root === undefined ? [] : ["`root`"],
    row.reduces ? ["`reduceOp`"] : [],
    row.splits ? ["`inputSplits`", "`outputSplits`"] : [],
  ];
  return terms.flat().join(", ") || "–";
}

async function capabilityTables(): Promise<string> {
  const plugins = await Promise.all(builtInBackends.map(({ load }) => load()));
  const cells = (cell: (plugin: BackendPlugin) => string): string[] => plugins.map((plugin) => cell(plugin));
  const tables = [
    table(
      ["dtypes of op", ...cells(({ name }) => name)],
      [
        ...operations.map((op) => [
          `\`${op}\``,
          ...cells(({ capabilities }) => {
            const dtypes = capabilities.ops[op];
            const part = madeOf(op, (other) => capabilities.ops[other] !== undefined);
            if (dtypes === undefined) return part === undefined ? "–" : `by \`${part}\``;
            return dtypes.length === 0 ? "yes" : dtypesText(dtypes);
          }),
        ]),
      ],
    ),
    table(
      ["reduce ops of dtype", ...cells(({ name }) => name)],
      [
        ...dtypeNames.map((dtype) => [
          dtype,
          ...cells(({ capabilities }) => (capabilities.reduceOps[dtype] ?? []).join(" ") || "–"),
        ]),
      ],
    ),
    table(
      ["beside", ...cells(({ name }) => name)],
      [
        ...Object.entries(features).map(([name, text]) => [
          text,
          ...cells(({ capabilities }) =>
            summarize(capabilities).features[name as keyof typeof features] ? "yes" : "–",
          ),
        ]),
      ],
    ),
  ];
  return tables.join("\n");
}

function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (row: readonly string[]): string => `| ${row.join(" | ")} |\n`;
  return line(header) + line(header.map(() => "---")) + rows.map(line).join("");
}

function split(text: string, mark: string): [string, string] {
  const at = text.indexOf(mark);
  if (at < 0) throw new Error(`docs/backends.md has no line ${mark.trim()}`);
  return [text.slice(0, at), text.slice(at + mark.length)];
}

if (import.meta.main) {
  const before = await Bun.file(page).text();
  const after = await withCapabilityTables(before);
  if (process.argv.includes("--check")) {
    if (after !== before) console.error("docs/backends.md is out of date: bun run generate");
    process.exitCode = after === before ? 0 : 1;
  } else if (after !== before) await Bun.write(page, after);
}
