import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";

const root = resolve(import.meta.dir, "../..");
const docs = readdirSync(join(root, "docs")).filter((name) => name.endsWith(".md"));
const folders = ["bench", "examples", "native", "src", "test"];
const pages = [
  ...filesOf("", "*.md"),
  ...docs.map((name) => `docs/${name}`),
  ...folders.flatMap((folder) => filesOf(folder, "**/*.md")),
].sort();

function filesOf(folder: string, pattern: string): string[] {
  const files = [...new Bun.Glob(pattern).scanSync({ cwd: join(root, folder) })];
  return files.filter((file) => !file.includes("node_modules")).map((file) => join(folder, file));
}

/** A page without its code, where brackets are not links. */
function proseOf(page: string): string {
  const text = readFileSync(join(root, page), "utf8");
  return text
    .replaceAll(/^ *```[\s\S]*?^ *```/gm, "")
    .replaceAll(/`[^`\n]*`/g, (code) => code.replaceAll(/[[\]()]/g, ""));
}

function linksOf(page: string): string[] {
  return Array.from(proseOf(page).matchAll(/\]\(([^)\s]+)\)/g), ([, link = ""]) => link);
}

/** The anchors of the headings of a page. */
function anchorsOf(page: string): Set<string> {
  const found = new Set<string>();
  const counts = new Map<string, number>();
  const text = readFileSync(join(root, page), "utf8").replaceAll(/^ *```[\s\S]*?^ *```/gm, "");
  for (const [, heading = ""] of text.matchAll(/^#+ +(.+)$/gm)) {
    const words = heading.replaceAll(/\[([^\]]*)\]\([^)]*\)/g, "$1").toLowerCase();
    const name = words.replaceAll(/[^\p{L}\p{N}\s_-]/gu, "").replaceAll(/\s/g, "-");
    const count = counts.get(name) ?? 0;
    counts.set(name, count + 1);
    found.add(count === 0 ? name : `${name}-${count}`);
  }
  return found;
}

function isBroken(page: string, link: string): boolean {
  if (/^[a-z]+:/.test(link)) return false;
  const [path = "", anchor] = link.split("#");
  const target = path === "" ? page : join(dirname(page), path);
  if (target.startsWith("..") || !existsSync(join(root, target))) return true;
  return anchor !== undefined && target.endsWith(".md") && !anchorsOf(target).has(anchor);
}

describe("links", () => {
  test.each(pages)("of %s are valid", (page) => {
    expect(linksOf(page).filter((link) => isBroken(page, link))).toEqual([]);
  });

  test("are found, and broken ones are detected", () => {
    expect(pages).toContain("README.md");
    expect(pages).toContain("examples/mnist/README.md");
    expect(linksOf("docs/index.md").length).toBeGreaterThanOrEqual(docs.length);
    expect(isBroken("docs/index.md", "missing.md")).toBe(true);
    expect(isBroken("docs/index.md", "stores.md#guarantees")).toBe(false);
    expect(isBroken("docs/index.md", "stores.md#no-such-heading")).toBe(true);
  });
});

test("docs/index.md lists every page", () => {
  const listed = linksOf("docs/index.md");
  expect(docs.filter((page) => page !== "index.md" && !listed.includes(page))).toEqual([]);
});
