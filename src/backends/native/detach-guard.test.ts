import { expect, setDefaultTimeout, test } from "bun:test";
import { spawnRanks, workerRanks } from "../../testing/index.ts";
import { allWell } from "../fixtures/all-well.ts";
import { describeGloo } from "../gloo/fixtures/availability.ts";

setDefaultTimeout(60_000);

const fixture = new URL("../fixtures/guarded-buffers.ts", import.meta.url);

function expectCaught(caught: Record<string, string>, isOn: boolean): void {
  expect(Object.keys(caught)).toHaveLength(17);
  for (const [name, outcome] of Object.entries(caught)) {
    if (isOn && !name.endsWith("later") && name !== "shared") {
      expect(outcome).toMatch(/^BUFFER_IN_USE: .*\(\): the buffer is in use by allReduce #\d+; await the Work/);
    } else expect(outcome).toBe("taken");
  }
  if (!isOn) return;
  for (const name of ["MessagePort", "MessagePort of node", "Worker"]) {
    expect(caught[name]).toStartWith(`BUFFER_IN_USE: ${name.split(" ")[0]}.prototype.postMessage():`);
  }
}

describeGloo("C10D_CHECK_DETACH", () => {
  test.each([
    [true, "1"],
    [false, undefined],
  ])("%p: what takes a buffer away from an op is caught at its source", async (isOn, C10D_CHECK_DETACH) => {
    const outcomes = await spawnRanks(2, fixture, { args: { backend: "gloo" }, env: { C10D_CHECK_DETACH } });
    for (const caught of allWell<Record<string, string>>(outcomes)) expectCaught(caught, isOn);
  });
});

test("C10D_CHECK_DETACH, fake ranks in Workers", async () => {
  const env = { C10D_CHECK_DETACH: "1" };
  const outcomes = await workerRanks(2, fixture, { args: { backend: "fake" }, env });
  for (const { error, value } of outcomes) {
    expect(error).toBeUndefined();
    expectCaught(value as Record<string, string>, true);
  }
});
