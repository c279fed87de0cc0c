import { expect, test } from "bun:test";
import type { FlightRecorder } from "../recorder/index.ts";
import { writeTraceFiles } from "./trace-files.ts";

test("what keeps a flight recorder from being written is said once", async () => {
  const warnings: string[] = [];
  const onWarning = (warning: Error) => warnings.push(warning.message);
  process.on("warning", onWarning);
  let reason = "no such folder";
  const recorder = {
    writeFiles: () => {
      throw new Error(reason);
    },
  } as unknown as FlightRecorder;
  const write = (what: string) => writeTraceFiles({ recorder, globalRank: 0, what, logger: undefined });
  for (const what of ["first", "second"]) write(what);
  reason = "no space";
  write("third");
  await Bun.sleep(1);
  process.off("warning", onWarning);
  expect(warnings).toEqual(
    [
      ["first", "no such folder"],
      ["third", "no space"],
    ].map(([what, why]) => `${what}, but the flight recorder could not be written: ${why}`),
  );
});
