import { DEFAULT_GROUP } from "../../../errors/default-group.ts";
import { element, setAttribute, setText } from "./element.ts";
import { marks, stateTitle } from "./rank-states.ts";
import type { RankView } from "./snapshot.ts";

interface Column {
  readonly name: string;
  readonly text: (view: RankView) => string;
  /** The column may be too narrow for its text. Default: the text. */
  readonly title?: (view: RankView) => string;
}

interface Row {
  readonly line: HTMLTableRowElement;
  /** Of each of {@link columns}. */
  readonly cells: readonly HTMLElement[];
  readonly markCell: HTMLElement;
  readonly mark: HTMLElement;
  readonly words: HTMLElement;
}

/** Those of texts, after the mark and the rank. */
const columns: readonly Column[] = [
  { name: "pid number", text: ({ pid }) => pid },
  { name: "state", text: ({ state }) => state, title: ({ state }) => stateTitle(state) },
  { name: "op", text: ({ op }) => op },
  { name: "since number", text: ({ since }) => since },
  { name: "ops number", text: ({ opsPerSecond }) => opsPerSecond },
  { name: "bytes number", text: ({ bytesPerSecond }) => bytesPerSecond },
  { name: "site", text: ({ callSite }) => callSite },
];
/** What a narrow window leaves out of an op. */
const place = ` on group "${DEFAULT_GROUP}"`;

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
    const markCell = cellOf("td", "mark", mark, words);
    const rankCell = cellOf("th", "rank number", button);
    rankCell.setAttribute("scope", "row");
    const cells = columns.map(({ name }) => cellOf("td", name));
    line.append(markCell, rankCell, ...cells);
    const row = { line, cells: cells.map(contentOf), markCell, mark, words };
    this.#rows.set(key, row);
    return row;
  }
}

function cellOf(tag: "td" | "th", name: string, ...content: readonly Node[]): HTMLElement {
  const cell = document.createElement(tag);
  cell.className = name;
  cell.append(...content);
  return cell;
}

/** Where the text of a cell goes. */
function contentOf(cell: HTMLElement): HTMLElement {
  // The style cuts the beginning of a call site off, as of a text from right to left, which it is not.
  return cell.className === "site" ? cell.appendChild(document.createElement("bdi")) : cell;
}

function fill({ line, cells, markCell, mark, words }: Row, view: RankView, hasHosts: boolean): void {
  setAttribute(line, "data-tone", view.tone);
  const [sign, meaning] = marks[view.tone];
  setText(mark, sign);
  setText(words, meaning);
  setAttribute(markCell, "title", meaning);
  for (const [i, { name, text, title = text }] of columns.entries()) {
    const cell = cells[i];
    if (cell === undefined) continue;
    const host = name === "state" && hasHosts && view.host !== "" ? ` on ${view.host}` : "";
    if (name === "op") setOp(cell, view.op);
    else setText(cell, `${text(view)}${host}`);
    setAttribute(cell, "title", `${title(view)}${host}`);
  }
}

function setOp(cell: HTMLElement, op: string): void {
  if (cell.textContent === op) return;
  const [before = "", ...after] = op.split(place);
  const part = document.createElement("span");
  part.className = "place";
  part.textContent = place;
  cell.replaceChildren(before, ...(after.length === 0 ? [] : [part, after.join(place)]));
}
