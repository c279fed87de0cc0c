import { readFileSync } from "node:fs";

/** Tests of a JUnit report of `bun test`. */
export interface TestCounts {
  readonly passed: number;
  readonly skipped: number;
  readonly failed: readonly string[];
}

const unescaped: Readonly<Record<string, string>> = {
  "&amp;": "&",
  "&lt;": "<",
  "&gt;": ">",
  "&quot;": '"',
  "&apos;": "'",
};

/** Reads a report. @throws if there is none, since the run then ended too early. */
export function testsOf(path: string): TestCounts {
  const xml = readFileSync(path, "utf8");
  const failed: string[] = [];
  let [passed, skipped] = [0, 0];
  for (const [, attributes = "", content = ""] of xml.matchAll(/<testcase\b([^>]*?)(?:\/>|>([\s\S]*?)<\/testcase>)/g)) {
    if (content.includes("<skipped")) skipped++;
    else if (!content.includes("<failure")) passed++;
    else {
      const name = /\bname="([^"]*)"/.exec(attributes)?.[1] ?? "";
      failed.push(name.replace(/&(?:amp|lt|gt|quot|apos);/g, (each) => unescaped[each] ?? each));
    }
  }
  return { passed, skipped, failed };
}
