import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const END = "\n<!-- end of the table -->";

/** The part of a page that a script generates, between two markers. */
export class PageTable {
  readonly #page: URL;
  readonly #begin: string;

  /** @param script The command that generates it, as named on the page. */
  constructor(page: URL, script: string) {
    this.#page = page;
    this.#begin = `<!-- table: ${script} -->\n\n`;
  }

  read(): string {
    const [, table] = this.#parts();
    return table;
  }

  write(table: string): void {
    const [before, , after] = this.#parts();
    writeFileSync(this.#page, `${before}${this.#begin}${table}${END}${after}`);
  }

  #parts(): [before: string, table: string, after: string] {
    const text = readFileSync(this.#page, "utf8");
    const begin = text.indexOf(this.#begin);
    const end = text.indexOf(END, begin);
    if (begin < 0 || end < 0) throw new Error(`${fileURLToPath(this.#page)} has lost the markers of its table`);
    return [text.slice(0, begin), text.slice(begin + this.#begin.length, end), text.slice(end + END.length)];
  }
}
