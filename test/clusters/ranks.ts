import { expect } from "bun:test";
import { join } from "node:path";
import type { CommandEnd } from "./hosts.ts";

export const script: string = join(import.meta.dir, "fixtures/rank.ts");

/** What the ranks of fixtures/rank.ts printed, in order. */
export function saidBy({ stdout }: CommandEnd): { time: number; rank: number; local: number; host: string }[] {
  return stdout
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line) as { time: number; rank: number; local: number; host: string })
    .sort((a, b) => a.time - b.time || a.rank - b.rank);
}

/** Expects that one rank on each of these hosts, in rank order, met the others so often. */
export function expectRanks(end: CommandEnd, hosts: readonly string[], times = 1): void {
  const size = hosts.length;
  const sum = (size * (size + 1)) / 2;
  const expected = Array.from({ length: times }, (_, time) =>
    hosts.map((host, rank) => ({ time, rank, size, sum, host })),
  ).flat();
  expect({ ...end, stdout: saidBy(end), stderr: end.exitCode === 0 ? "" : end.stdout + end.stderr }).toMatchObject({
    exitCode: 0,
    stdout: expected,
    stderr: "",
  });
}
