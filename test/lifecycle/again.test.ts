import { expect, setDefaultTimeout, test } from "bun:test";
import { onFreePort, runScript } from "./script-job.ts";

setDefaultTimeout(60_000);

for (const scheme of ["env", "tcp"]) {
  test(`${scheme}://: a job without a launcher meets repeatedly at one port`, async () => {
    const outcomes = await onFreePort((port) =>
      runScript(3, "again.ts", ["24", scheme], {
        MASTER_PORT: String(port),
        TORCHELASTIC_USE_AGENT_STORE: "False",
      }),
    );
    for (const { stderr, stdout } of outcomes)
      expect({ stderr, stdout }).toEqual({ stderr: "", stdout: "rounds 24\n" });
  });
}

const cases = [0, 2].flatMap((odd) =>
  ["before", "after"].flatMap((when) => ["env", "tcp", "launcher"].map((how) => [odd, when, how] as const)),
);

test.each(cases)("init fails only on rank %d, %s it is connected, and all meet again: %s", async (odd, when, how) => {
  const args = [String(odd), when, how === "tcp" ? "tcp" : "env"];
  const outcomes = await (how === "launcher"
    ? runScript(3, "again-after-failure.ts", args)
    : onFreePort((port) =>
        runScript(3, "again-after-failure.ts", args, {
          MASTER_PORT: String(port),
          TORCHELASTIC_USE_AGENT_STORE: "False",
        }),
      ));
  for (const { stderr, stdout } of outcomes) expect({ stderr, stdout }).toEqual({ stderr: "", stdout: "sum 3\n" });
});
