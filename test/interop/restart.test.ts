import { expect, setDefaultTimeout, test } from "bun:test";
import { fixture as cliFixture, runCli } from "../../src/cli/fixtures/cli-process.ts";
import { describeWithTorch, fixture } from "./torch.ts";

setDefaultTimeout(60_000);

describeWithTorch("c10d run --max-restarts with a PyTorch rank", (python) => {
  test("the ranks of both kinds meet again after a Bun rank has failed", async () => {
    const bun = `exec '${process.execPath}' '${cliFixture("restart.ts")}' 1 1`;
    const script = `[ $RANK = 0 ] && exec '${python}' '${fixture("restart_rank.py")}'; ${bun}`;
    const { exitCode, stdout, stderr } = await runCli([
      ...["run", "-n", "3", "--max-restarts", "1", "--torch-compat", "--no-prefix", "--no-bun", "sh", "-c", script],
    ]);
    expect(stderr).toContain("rank 1 failed first: exit code 9");
    expect(exitCode).toBe(0);
    expect(stdout).toContain("python rank 0 attempt 1 sum 6");
    for (const rank of [1, 2]) expect(stdout).toContain(`{"rank":${rank},"attempt":1,"of":1,"sum":6,`);
  });
});
