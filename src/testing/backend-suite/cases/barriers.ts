import type { SuiteCase } from "../suite-case.ts";
import type { SuiteRank } from "../suite-rank.ts";

/** No rank passes before all have arrived; one rank is late each time. */
async function passTogether(it: SuiteRank, pass: () => PromiseLike<unknown>): Promise<void> {
  for (let round = 0; round < 2 * it.worldSize; round++) {
    if (round % it.worldSize === it.rank) await Bun.sleep(8);
    await it.store.add(`came/${round}`, 1);
    await pass();
    const came = await it.store.add(`came/${round}`, 0);
    it.check(came === it.worldSize, `round ${round}: left when only ${came} of ${it.worldSize} ranks had arrived`);
  }
}

export const barrierCases: readonly SuiteCase[] = [
  {
    name: "barrier > nobody leaves before the last has come",
    ops: ["barrier"],
    run: (it) => passTogether(it, () => it.end(it.group.barrier())),
  },
  {
    name: "monitoredBarrier > nobody leaves before the last has come",
    ops: ["monitoredBarrier"],
    memory: "host",
    run: (it) => passTogether(it, () => it.end(it.group.monitoredBarrier({ waitAllRanks: true }))),
  },
  {
    name: "monitoredBarrier > names the rank that does not come",
    idle: true,
    ops: ["monitoredBarrier"],
    memory: "host",
    ranks: 2,
    async run(it) {
      if (it.isLast) return;
      const work = it.group.monitoredBarrier({ waitAllRanks: true, timeout: 150 });
      const error = await it.rejection("monitoredBarrier without the last rank", work);
      if (it.rank !== 0) return;
      const last = it.worldSize - 1;
      it.check(error.name === "DistTimeoutError", `it failed with ${error.name}: ${error.message}`);
      it.check(
        new RegExp(`ranks? (\\d+, )*${last}\\b`, "i").test(error.message),
        `the error does not name rank ${last}: ${error.message}`,
      );
    },
  },
];
