import { expect, test } from "bun:test";
import type { GlooOptions } from "../backends/gloo/options.ts";
import type { InitOptions, NcclConfig, NcclOptions, NewGroupOptions } from "../index.ts";
import type { OptionsOf } from "./backend-options-by-name.ts";
import type { BackendPlugin } from "./contracts/backend-plugin.ts";

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const same = <A, B>(verdict: Equal<A, B>): boolean => verdict;

// `tsc` does the checking; these run so that the file is a test.
test("the type of the options follows from the backend", () => {
  expect(same<OptionsOf<"gloo">, GlooOptions>(true)).toBe(true);
  expect(same<OptionsOf<"somebody's">, Readonly<Record<string, unknown>>>(true)).toBe(true);
  expect(same<OptionsOf<string>, Readonly<Record<string, unknown>>>(true)).toBe(true);

  const right: InitOptions<"gloo"> = { backend: "gloo", options: { threads: 4 } };
  // @ts-expect-error: no such option
  const misspelt: InitOptions<"gloo"> = { backend: "gloo", options: { threds: 4 } };
  // @ts-expect-error: no such mode
  const wrong: NewGroupOptions<"fake"> = { backend: "fake", options: { mode: "remote" } };
  const unnamed: InitOptions = { options: { anything: true } };
  expect([right, misspelt, wrong, unnamed]).toHaveLength(4);
});

test("the options of nccl and their configuration have exported types", () => {
  expect(same<NcclOptions["config"], NcclConfig | undefined>(true)).toBe(true);
  expect(same<NcclConfig["maxCtas"], number | undefined>(true)).toBe(true);
  const options: NcclOptions = { config: { maxCtas: 4 } satisfies NcclConfig, eager: true };
  expect(options.config).toEqual({ maxCtas: 4 });
});

test("the context of a plugin has its options, all of them optional", () => {
  type Context = Parameters<BackendPlugin<{ readonly chunk: number }>["create"]>[0];
  expect(same<Context["options"]["chunk"], number | undefined>(true)).toBe(true);
});
