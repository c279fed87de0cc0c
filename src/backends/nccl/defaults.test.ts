import { expect, setDefaultTimeout, test } from "bun:test";
import { spawnRanks } from "../../testing/index.ts";
import { describeEmulator, emulatorEnv } from "./fixtures/emulator.ts";

setDefaultTimeout(60_000);

async function results(args: string | null, env: Readonly<Record<string, string>> = {}): Promise<unknown[]> {
  const file = new URL("./fixtures/defaults.ts", import.meta.url);
  const ranks = await spawnRanks(2, file, { args, env: { C10D_BACKEND: "", ...emulatorEnv(), ...env } });
  for (const { error, exitCode } of ranks) {
    expect({ error: error?.stack, exitCode }).toEqual({ error: undefined, exitCode: 0 });
  }
  return ranks.map(({ value }) => value);
}

const twice = <T>(value: T): T[] => [value, value];

describeEmulator("the default backend, on the emulators", () => {
  test("is Gloo for host memory and NCCL for CUDA tensors, where that can be used", async () => {
    const names = [
      ["cpu", "gloo"],
      ["cuda", "nccl"],
    ];
    expect(await results(null)).toEqual(twice({ names, absent: "NO_SUCH_DEVICE", sums: [2, 2], timeoutMs: 20_000 }));
  });

  test.each([
    ["no device", { NCCL_EMULATOR_DEVICES: "0" }, "sees no device"],
    ["no NCCL", { C10D_NCCL_LIBRARY: "/no/libnccl.so.2" }, "there is no /no/libnccl.so.2"],
  ])("is Gloo with %s, and a CUDA tensor is refused with the reason", async (_, env, reason) => {
    const names = [["cpu", "gloo"]];
    const refused = expect.stringContaining(
      "has no backend for cuda tensors (it has cpu): the nccl backend cannot run here",
    );
    const values = await results(null, env);
    expect(values).toEqual(twice({ names, refused }));
    expect(JSON.stringify(values)).toContain(reason);
  });

  test("nccl that is named without a device is refused with c10d's text and the reason", async () => {
    const [first] = await results("nccl", { NCCL_EMULATOR_DEVICES: "0" });
    expect(first).toMatchObject({ error: "BackendUnavailableError" });
    const { message } = first as { readonly message: string };
    expect(message).toContain("ProcessGroupNCCL is only supported with GPUs, no GPUs found!");
    expect(message).toContain("sees no device");
  });
});
