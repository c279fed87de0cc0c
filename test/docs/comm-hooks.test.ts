import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import * as ddp from "../../src/ddp/index.ts";
import { files, page } from "./code/comm-hooks.ts";
import { CodeFolder } from "./code-folder.ts";

setDefaultTimeout(60_000);

// Runs the code of docs/comm-hooks.md in two ranks.

const folder = new CodeFolder("comm-hooks", files);
afterAll(() => folder[Symbol.dispose]());

/** What the page says that both ranks print. */
const printed: Readonly<Record<string, RegExp>> = {
  "power.ts": /Both ranks print `(.*)`, then `(.*)` and `(.*)`/,
  "local.ts": /^It prints\n\n```text\n(.*)\n(.*)\n```/m,
  "overlap.ts": /Both ranks print `(.*undefined)`/,
};

test("the page has these programs", () => {
  expect([...files.keys()]).toEqual(Object.keys(printed));
});

test.each(Object.entries(printed))("%s", async (name, pattern) => {
  const shown = page.match(pattern)?.slice(1) ?? [];
  expect(shown.length).toBeGreaterThan(0);
  const lines = (name === "local.ts" ? shown : [...shown, ...shown]).toSorted();
  expect(await folder.runRanks(name)).toMatchObject({ exitCode: 0, stderr: "", lines });
});

test("the table has all hooks, and those of PowerSGD all options", () => {
  const rows = Array.from(page.matchAll(/^\| `(\w+Hook)`/gm), ([, name = ""]) => name);
  const hooks = Object.keys(ddp).filter((name) => name.endsWith("Hook") && !name.startsWith("register"));
  expect(rows.toSorted()).toEqual(hooks.toSorted());
  const [, section = ""] = page.split("## PowerSGD");
  const options = Array.from(section.matchAll(/^\| `(\w+)` \| [`\w]+ \| /gm), ([, name = ""]) => name);
  expect(options.toSorted()).toEqual(Object.keys(new ddp.PowerSGDState().save().options).toSorted());
});
