/** Prints file and name, with a tab between, of each test that a JUnit report of `bun test` has as failed. */
import { readFileSync } from "node:fs";

const [report = ""] = process.argv.slice(2);
const xml = readFileSync(report, "utf8");
for (const [, attributes = "", content = ""] of xml.matchAll(/<testcase\b([^>]*?)(?:\/>|>([\s\S]*?)<\/testcase>)/g)) {
  if (!content.includes("<failure")) continue;
  const value = (name: string): string => new RegExp(`\\b${name}="([^"]*)"`).exec(attributes)?.[1] ?? "";
  console.log(`${value("file")}\t${value("classname")} > ${value("name")}`);
}
