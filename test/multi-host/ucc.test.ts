import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import type { SpawnOptions } from "bun-c10d/testing";
import { spawnRanks } from "bun-c10d/testing";
import { allWell, describeUcc, spawn } from "../../src/backends/ucc/fixtures/availability.ts";
import { isOfMessage, type Mismatch, type MismatchEnd, mismatches } from "../../src/backends/ucc/fixtures/mismatch.ts";
import { expectMismatches } from "../../src/backends/ucc/fixtures/mismatch-texts.ts";
import { CutNetwork } from "../faults/cut-network.ts";
import { TwoHosts } from "./two-hosts.ts";

setDefaultTimeout(120_000);

const impossible = await TwoHosts.impossible();
const required = process.env.C10D_REQUIRE_NETNS === "1";
if (impossible !== undefined && !required) console.log(`ucc on two hosts is skipped, no namespaces: ${impossible}`);

describeUcc("ucc, ranks 0 and 1 on one host and rank 2 alone on another", () => {
  let hosts: TwoHosts;
  let network: CutNetwork;
  let options: SpawnOptions;
  beforeAll(async () => {
    if (impossible !== undefined && !required) return;
    hosts = await TwoHosts.make();
    network = await CutNetwork.make(hosts, { culprit: 2 });
    const place = network.options.runtime ?? [];
    // Else UCX would find the memory of the other host's processes.
    const env = { ...network.options.env, UCX_TLS: "tcp,self", UCX_NET_DEVICES: "veth" };
    options = { ...network.options, runtime: [...place.slice(0, -1), ...(spawn.runtime ?? place.slice(-1))], env };
  });
  afterAll(async () => {
    await network?.[Symbol.asyncDispose]();
    await hosts?.[Symbol.asyncDispose]();
  });

  test.skipIf(impossible !== undefined && !required)(
    "calls that differ are an error on every rank, in the same words",
    async () => {
      const file = new URL("../../src/backends/ucc/fixtures/mismatch.ts", import.meta.url);
      const outcomes = await spawnRanks(3, file, { ...options, args: { acrossHosts: true }, timeout: "100s" });
      const all = allWell<MismatchEnd[]>(outcomes);
      const names = (Object.keys(mismatches) as Mismatch[]).filter((name) => !isOfMessage(name));
      for (const ends of all) expectMismatches(ends, names);
      const texts = all.map((ends) => ends.map(({ error }) => /rank \d+ called .*/.exec(error?.message ?? "")?.[0]));
      expect(texts).toEqual(texts.map(() => texts[0] ?? []));
    },
  );
});
