import { expect, setDefaultTimeout, test } from "bun:test";
import { files as backends } from "./code/backends.ts";
import { files as commHooks } from "./code/comm-hooks.ts";
import { files as containers } from "./code/containers.ts";
import { files as control } from "./code/control.ts";
import { files as ddp } from "./code/ddp.ts";
import { files as frameworks } from "./code/frameworks.ts";
import { files as hooks } from "./code/hooks.ts";
import { files as testing } from "./code/testing.ts";
import { files as trace } from "./code/trace.ts";
import { files as wrapABackend } from "./code/wrap-a-backend.ts";
import { files as writeABackend } from "./code/write-a-backend.ts";
import { CodeFolder } from "./code-folder.ts";

setDefaultTimeout(120_000);

// Compiles the code of all pages at once: most of the time is for the package that all import.

const pages = {
  ...{ backends, containers, control, ddp, frameworks, hooks, testing, trace },
  ...{ "comm-hooks": commHooks, "wrap-a-backend": wrapABackend, "write-a-backend": writeABackend },
};

test("the code of the pages compiles", async () => {
  const files = Object.entries(pages).flatMap(([page, files]) => {
    return Array.from(files, ([name, code]) => [`${page}/${name}`, code] as const);
  });
  // The tests of these pages run as many.
  expect([pages.hooks.size, pages.trace.length]).toEqual([3, 1]);
  expect(Object.values(pages).map((each) => [...each].length)).not.toContain(0);
  expect(files.filter(([, code]) => code === "")).toEqual([]);
  using folder = new CodeFolder("docs", files, 110_000);
  expect(await folder.compileErrors()).toEqual([]);
});
