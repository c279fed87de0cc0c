/** Prints file and name, separated by a tab, of each failed test in a JUnit report of `bun test`. */
import { readFileSync } from "node:fs";

const [report = ""] = process.argv.slice(2);
const xml = readFileSync(report, "utf8");
for (const [, attributes = "", content = ""] of xml.matchAll(/<testcase\b([^>]*?)(?:\/>|>([\s\S]*?)<\/testcase>)/g)) {
  if (!content.includes("<failure")) continue;
  const value = (name: string): string => new RegExp(`\\b${name}="([^"]*)"`).exec(attributes)?.[1] ?? "";
  console.log(`${value("file")}\t${value("classname")} > ${value("name")}`);
}
