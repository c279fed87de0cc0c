import { element, setAttribute, setText } from "./element.ts";
import type { RankTone, RankView } from "./snapshot.ts";

/** What marks a rank besides its colour. */
const marks: Readonly<Record<RankTone, readonly [mark: string, words: string]>> = {
  late: ["!", "others wait for it"],
  failed: ["×", "it or its last op has failed"],
  waiting: ["…", "it waits"],
  ended: ["■", "it has ended"],
  calm: ["", ""],
};

interface Row {
  readonly line: HTMLTableRowElement;
  /** Those of texts. */
  readonly cells: readonly HTMLElement[];
  readonly mark: HTMLElement;
  readonly words: HTMLElement;
}

const columns = ["mark", "rank", "pid", "state", "op", "since", "ops", "bytes", "site"] as const;
const numeric: ReadonlySet<string> = new Set(["rank", "pid", "since", "ops", "bytes"]);

/** The table of what each rank is doing. Rows stay in place while their texts change. */
export class RankTable {
  readonly #body = element("#ranks tbody", HTMLTableSectionElement);
  readonly #empty = element("#ranks .empty", HTMLElement);
  readonly #rows = new Map<string, Row>();
  readonly #onChoose: (rank: number) => void;

  /** @param onChoose A rank is to be shown in the timeline. */
  constructor(onChoose: (rank: number) => void) {
    this.#onChoose = onChoose;
  }

  show(ranks: readonly RankView[]): void {
    this.#empty.hidden = ranks.length > 0;
    const keys = new Set(ranks.map(({ key }) => key));
    for (const [key, { line }] of this.#rows) {
      if (keys.has(key)) continue;
      line.remove();
      this.#rows.delete(key);
    }
    const hosts = new Set(ranks.map(({ host }) => host).filter((host) => host !== ""));
    let before: HTMLTableRowElement | undefined;
    for (const view of ranks) {
      const row = this.#rows.get(view.key) ?? this.#add(view);
      fill(row, view, hosts.size > 1);
      const place = before === undefined ? this.#body.firstElementChild : before.nextElementSibling;
      if (place !== row.line) this.#body.insertBefore(row.line, place);
      before = row.line;
    }
  }

  #add({ key, rank }: RankView): Row {
    const line = document.createElement("tr");
    const mark = document.createElement("span");
    const words = document.createElement("span");
    mark.setAttribute("aria-hidden", "true");
    words.className = "unseen";
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = String(rank);
    button.title = `show rank ${rank} in the timeline`;
    button.addEventListener("click", () => this.#onChoose(rank));
    const cells = columns.map((name) => {
      const cell = document.createElement(name === "rank" ? "th" : "td");
      if (name === "rank") cell.setAttribute("scope", "row");
      cell.className = numeric.has(name) ? `${name} number` : name;
      return cell;
    });
    line.append(...cells);
    cells[0]?.append(mark, words);
    cells[1]?.append(button);
    // The style cuts its beginning off, as of a text from right to left, which it is not.
    const site = document.createElement("bdi");
    cells.at(-1)?.append(site);
    const row = { line, cells: [...cells.slice(2, -1), site], mark, words };
    this.#rows.set(key, row);
    return row;
  }
}

function fill({ line, cells, mark, words }: Row, view: RankView, hasHosts: boolean): void {
  setAttribute(line, "data-tone", view.tone);
  const [sign, meaning] = marks[view.tone];
  setText(mark, sign);
  setText(words, meaning);
  const state = hasHosts && view.host !== "" ? `${view.state} on ${view.host}` : view.state;
  const texts = [view.pid, state, view.op, view.since, view.opsPerSecond, view.bytesPerSecond, view.callSite];
  for (const [i, text] of texts.entries()) {
    const cell = cells[i];
    if (cell === undefined) continue;
    setText(cell, text);
    // The column may be too narrow for it.
    if (i === 1 || i === 2 || i === 6) setAttribute(cell, "title", text);
  }
}
