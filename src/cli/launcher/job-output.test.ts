import { describe, expect, test } from "bun:test";
import { JobOutput, type OutputSink } from "./job-output.ts";

class MemorySink implements OutputSink {
  text = "";
  constructor(
    readonly isTTY: boolean,
    readonly columns = 80,
  ) {}
  write(bytes: Uint8Array): Promise<void> {
    this.text += new TextDecoder().decode(bytes);
    return Promise.resolve();
  }
}

function setUp(isTTY: boolean, prefix = true, columns = 80) {
  const stdout = new MemorySink(isTTY, columns);
  const stderr = new MemorySink(isTTY, columns);
  return { stdout, stderr, output: new JobOutput({ stdout, stderr }, { prefix }) };
}

const bytes = (text: string) => new TextEncoder().encode(text);

describe("JobOutput", () => {
  test("prefixes each line and keeps the streams apart", async () => {
    const { output, stdout, stderr } = setUp(false);
    await output.lines(2, "stdout", [bytes("a"), bytes("b")]);
    await output.lines(0, "stderr", [bytes("c")]);
    expect(stdout.text).toBe("[rank 2] a\n[rank 2] b\n");
    expect(stderr.text).toBe("[rank 0] c\n");
  });

  test("without prefixes writes only the lines", async () => {
    const { output, stdout } = setUp(false, false);
    await output.lines(1, "stdout", [bytes("\x1b[31ma\x1b[0m")]);
    expect(stdout.text).toBe("\x1b[31ma\x1b[0m\n");
  });

  test("writes no progress bars to a file", async () => {
    const { output, stdout } = setUp(false);
    await output.progress(0, "stdout", bytes("10%"));
    expect(stdout.text).toBe("");
  });

  test("on a terminal a progress bar stays below the lines of other ranks and gives way to its own", async () => {
    const { output, stdout } = setUp(true, false);
    await output.progress(0, "stdout", bytes("10%"));
    await output.lines(1, "stdout", [bytes("hello")]);
    await output.progress(0, "stdout", bytes("20%"));
    await output.lines(0, "stdout", [bytes("done")]);
    await output.lines(1, "stdout", [bytes("bye")]);
    expect(stdout.text).toBe("10%\r\x1b[Khello\n10%\r\x1b[K20%\r\x1b[Kdone\nbye\n");
  });

  test("a progress bar is cut to the width of the terminal, prefix included", async () => {
    const { output, stdout } = setUp(true, true, 20);
    await output.progress(3, "stdout", bytes("#".repeat(100)));
    expect(Bun.stripANSI(stdout.text)).toBe(`[rank 3] ${"#".repeat(10)}`);
  });

  test("a note replaces the bar", async () => {
    const { output, stdout, stderr } = setUp(true, false);
    await output.progress(0, "stdout", bytes("10%"));
    await output.note("rank 0 failed\n");
    expect([stdout.text, stderr.text]).toEqual(["10%", "\r\x1b[Krank 0 failed\n"]);
  });
});
