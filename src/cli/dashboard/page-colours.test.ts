import { describe, expect, test } from "bun:test";
import { kindLooks } from "./page/op-kinds.ts";
import { pageFiles } from "./page-files.ts";

const style = (await pageFiles()).get("colours.css")?.body ?? "";
const [light = "", dark = ""] = Array.from(style.matchAll(/:root \{([^}]*)\}/g), ([, body]) => body);

function colours(text: string): ReadonlyMap<string, string> {
  return new Map(
    Array.from(text.matchAll(/--([\w-]+): (#[0-9a-f]{6});/g), ([, name = "", value = ""]) => [name, value]),
  );
}

/** Relative luminance, as WCAG 2 defines it. */
function luminance(colour: string): number {
  const [red = 0, green = 0, blue = 0] = [1, 3, 5].map((at) => {
    const part = Number.parseInt(colour.slice(at, at + 2), 16) / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function contrast(a: string, b: string): number {
  const [bright = 0, dim = 0] = [luminance(a), luminance(b)].sort((x, y) => y - x);
  return (bright + 0.05) / (dim + 0.05);
}

const kinds = Object.keys(kindLooks);
const grounds = ["page", "panel", "stripe", "late-back", "wait-back", "good-back"];
/** Text and what it is on. */
const texts: readonly (readonly [string, string])[] = [
  ...grounds.flatMap(
    (ground) =>
      [
        ["text", ground],
        ["dim", ground],
      ] as const,
  ),
  ...["panel", "stripe", "late-back"].map((ground) => ["late", ground] as const),
  ...([
    ["wait", "wait-back"],
    ["wait", "panel"],
    ["good", "good-back"],
    ["panel", "late"],
    ["panel", "accent"],
    ["text", "line"],
  ] as const),
  ...kinds.map((kind) => ["text", `${kind}-fill`] as const),
];
/** Borders, bars and marks, and what is next to them. */
const shapes: readonly (readonly [string, string])[] = [
  ...[...kinds, "failed"].flatMap((kind) =>
    ["panel", "stripe", "late-back"].map((ground) => [`${kind}-edge`, ground] as const),
  ),
  ...["page", "panel", "stripe", "late-back"].flatMap(
    (ground) =>
      [
        ["accent", ground],
        ["edge", ground],
      ] as const,
  ),
  ...kinds.map((kind) => ["accent", `${kind}-fill`] as const),
];

describe.each([
  ["light", colours(light)],
  ["dark", colours(dark)],
] as const)("contrast in %s", (_, palette) => {
  const colour = (name: string): string => {
    const found = palette.get(name);
    if (found === undefined) throw new Error(`no colour ${name}`);
    return found;
  };
  const weak = (pairs: readonly (readonly [string, string])[], least: number): readonly string[] =>
    pairs.flatMap(([a, b]) => {
      const found = contrast(colour(a), colour(b));
      return found < least ? [`${a} on ${b}: ${found.toFixed(2)}`] : [];
    });

  test("of text is at least 4.5", () => {
    expect(weak(texts, 4.5)).toEqual([]);
  });

  test("of what has to be seen is at least 3", () => {
    expect(weak(shapes, 3)).toEqual([]);
  });
});
