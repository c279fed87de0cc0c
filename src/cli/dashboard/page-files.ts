import { basename, join } from "node:path";

/** What the server sends for a path below the token. */
export interface PageFile {
  readonly body: string;
  readonly type: string;
}

const folder = join(import.meta.dir, "page");
const types = { html: "text/html", css: "text/css", svg: "image/svg+xml", ts: "text/javascript" } as const;
const names = [
  ...["index.html", "icon.svg"],
  ...["colours", "style", "header", "ranks", "timeline", "problems"].map((name) => `${name}.css`),
  ...[
    "bar-drawing",
    "connection",
    "details-text",
    "element",
    "legend",
    "main",
    "op-kinds",
    "op-lanes",
    "palette",
    "problem-list",
    "rank-states",
    "rank-table",
  ].map((name) => `${name}.ts`),
  ...["shortcuts", "tabs", "time-window", "timeline", "timeline-drawing", "timeline-input", "timeline-scene"].map(
    (name) => `${name}.ts`,
  ),
];
/** What the page shares with the rest; browsers get it from beside the page. */
const shared = ["../../../errors/default-group.ts", "../../../time/duration-text.ts"];

/** Reads the page from the package, once; browsers get its TypeScript as JavaScript. By path; the page itself is "". */
export async function pageFiles(): Promise<ReadonlyMap<string, PageFile>> {
  const transpiler = new Bun.Transpiler({ loader: "ts", target: "browser" });
  const files = [...names, ...shared].map(async (path) => {
    const text = await Bun.file(join(folder, path)).text();
    const name = basename(path);
    const ending = name.slice(name.lastIndexOf(".") + 1) as keyof typeof types;
    const body = ending === "ts" ? besidePage(transpiler.transformSync(text)) : text;
    return [name === "index.html" ? "" : name, { body, type: `${types[ending]}; charset=utf-8` }] as const;
  });
  return new Map(await Promise.all(files));
}

/** With imports of {@link shared} files as browsers get them. */
function besidePage(code: string): string {
  return shared.reduce((text, path) => text.replaceAll(`"${path}"`, `"./${basename(path)}"`), code);
}
