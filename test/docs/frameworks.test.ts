import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { failing as jaxFailing, tried as jaxTried } from "../ddp/jax-gradients.ts";
import { tried as tfjsTried, tryGradients } from "../ddp/tfjs-gradients.ts";
import { files, page } from "./code/frameworks.ts";
import { CodeFolder } from "./code-folder.ts";

setDefaultTimeout(60_000);

const folder = new CodeFolder("frameworks", files);
afterAll(() => folder[Symbol.dispose]());

test("the page has these programs", () => {
  expect([...files.keys()]).toEqual(["tfjs.ts", "jax.ts"]);
});

test.each([...files.keys()])("%s learns the line", async (name) => {
  const { exitCode, lines } = await folder.runRanks(name);
  expect({ exitCode, lines: lines.filter((line) => line.startsWith("y = ")) }).toEqual({
    exitCode: 0,
    lines: ["y = 3.00 x + 1.00", "y = 3.00 x + 1.00"],
  });
});

/** The names in a row of the tables of what does not run. */
function namesOf(row: string): string[] {
  const line = page.split("\n").find((each) => each.startsWith(`| ${row} |`)) ?? "";
  const [, , names = ""] = line.split("|");
  return Array.from(names.matchAll(/`(\w+)`/g), ([, name = ""]) => name).sort();
}

/** How many operations the page says were tried, in the order of its sections. */
const counts = Array.from(page.matchAll(/^Tried: the gradients of (\d+) operations/gm), ([, count]) => Number(count));

test("which gradients TensorFlow.js has, and where its backends disagree", async () => {
  const { cpu, wasm, different, values } = await tryGradients();
  const onlyWasm = wasm.filter((name) => !cpu.includes(name));
  console.log(
    `tfjs: ${tfjsTried} gradients tried; only wasm lacks ${onlyWasm.join(", ")}; wrong are ${different.join(", ")}`,
  );
  expect(cpu).toEqual(namesOf("missing on both"));
  expect(onlyWasm).toEqual(namesOf("missing on `wasm`"));
  expect(cpu.filter((name) => !wasm.includes(name))).toEqual([]);
  expect(different).toEqual(namesOf("wrong on `wasm`"));
  // It is cpu that is right.
  expect(values.get("conv3dStrides")).toEqual(values.get("conv2dStrides") ?? new Float32Array());
  expect(counts[0]).toBe(tfjsTried);
});

test("which gradients jax-js has, and that its devices agree", async () => {
  const { plain, jitted } = await jaxFailing();
  console.log(`jax-js: ${jaxTried} gradients tried; under jit it lacks ${jitted.join(", ")}`);
  expect(plain).toEqual([]);
  expect(jitted).toEqual(namesOf("in `jax.jit`"));
  expect(counts[1]).toBe(jaxTried);
});
