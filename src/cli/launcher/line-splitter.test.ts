import { describe, expect, test } from "bun:test";
import { LineSplitter } from "./line-splitter.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder();

function split(...chunks: string[]): string[] {
  const splitter = new LineSplitter();
  const lines = chunks.flatMap((chunk) => splitter.push(encoder.encode(chunk)));
  return [...lines, ...splitter.end()].map((line) => decoder.decode(line));
}

describe("LineSplitter", () => {
  test.each([
    [["a\nb\n"], ["a", "b"]],
    [
      ["a", "b\nc", "\n"],
      ["ab", "c"],
    ],
    [["last without end"], ["last without end"]],
    [["\n\na\n"], ["", "", "a"]],
    [[], []],
    [
      ["dos\r\nend\r", "\n"],
      ["dos", "end"],
    ],
    [["10%\r20%\r30%\n"], ["30%"]],
    [
      ["\r10%", "\r20%", "\rdone\nnext"],
      ["done", "next"],
    ],
    [["10%\r", "20%\r"], ["20%"]],
    [["10%\r\r\n"], ["10%"]],
    [["\r\r"], []],
  ])("%j becomes %j", (chunks, lines) => {
    expect(split(...chunks)).toEqual(lines);
  });

  test("a character split between chunks survives", () => {
    const bytes = encoder.encode("é→🙂\n");
    const splitter = new LineSplitter();
    const lines = Array.from(bytes, (byte) => splitter.push(new Uint8Array([byte]))).flat();
    expect(lines.map((line) => decoder.decode(line))).toEqual(["é→🙂"]);
  });

  test("reports the state of a progress bar, but no plain unfinished line", () => {
    const splitter = new LineSplitter();
    const progress = () => splitter.progress && decoder.decode(splitter.progress);
    splitter.push(encoder.encode("plain"));
    expect(progress()).toBeUndefined();
    splitter.push(encoder.encode("\r10%\r20%"));
    expect(progress()).toBe("20%");
    splitter.push(encoder.encode("\r"));
    expect(progress()).toBe("20%");
    splitter.push(encoder.encode("30%"));
    expect(progress()).toBe("30%");
    splitter.push(encoder.encode("\n"));
    expect(progress()).toBeUndefined();
  });

  test("an endless line is cut, and nothing of it is lost", () => {
    const text = "x".repeat(2_500_000);
    const lines = split(text);
    expect(lines.length).toBe(3);
    expect(lines.join("")).toBe(text);
  });

  test("an endless progress bar takes little memory", () => {
    const splitter = new LineSplitter();
    let lines = 0;
    for (let i = 0; i < 50_000; i++) lines += splitter.push(encoder.encode(`\r${"#".repeat(100)} ${i}`)).length;
    expect(lines).toBe(0);
    expect(splitter.progress?.length).toBeLessThan(120);
  });
});
