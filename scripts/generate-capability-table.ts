/** Writes the capability tables of the built-in backends into docs/backends.md: `bun scripts/generate-capability-table.ts`. */
import { builtInBackends } from "../src/registry/built-in-backends.ts";
import { type BackendPlugin, dtypesText, features, operations, summarize } from "../src/registry/index.ts";
import { dtypeNames } from "../src/tensor/index.ts";

export const page: URL = new URL("../docs/backends.md", import.meta.url);
const [begin, end] = ["<!-- capability tables: begin -->\n", "<!-- capability tables: end -->\n"];

/** The page with its tables as the plugins have them now. */
export async function withCapabilityTables(text: string): Promise<string> {
  const [before, rest] = split(text, begin);
  const [, after] = split(rest, end);
  return `${before}${begin}\n${await capabilityTables()}\n${end}${after}`;
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
            return dtypes === undefined ? "–" : dtypes.length === 0 ? "yes" : dtypesText(dtypes);
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

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (row: readonly string[]): string => `| ${row.join(" | ")} |\n`;
  return line(head) + line(head.map(() => "---")) + rows.map(line).join("");
}

function split(text: string, mark: string): [string, string] {
  const at = text.indexOf(mark);
  if (at < 0) throw new Error(`docs/backends.md has no line ${mark.trim()}`);
  return [text.slice(0, at), text.slice(at + mark.length)];
}

if (import.meta.main) await Bun.write(page, await withCapabilityTables(await Bun.file(page).text()));
