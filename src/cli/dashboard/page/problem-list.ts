import { element, setAttribute, setLines, setText } from "./element.ts";
import type { EndView, ProblemKind, ProblemView } from "./snapshot.ts";

const names: Readonly<Record<ProblemKind, string>> = {
  missing: "late",
  slow: "slow",
  desync: "desync",
  failed: "failed",
  ended: "ended",
};

interface Item {
  readonly line: HTMLLIElement;
  readonly title: HTMLElement;
  readonly detail: HTMLElement;
  view: ProblemView;
}

/** The list of what is wrong, and how the job ended. */
export class ProblemList {
  readonly #list = element("#problems ol", HTMLOListElement);
  readonly #empty = element("#problems .empty", HTMLElement);
  readonly #end = element("#end", HTMLElement);
  readonly #items = new Map<string, Item>();
  readonly #onChoose: (problem: ProblemView) => void;

  /** @param onChoose A problem is to be shown in the timeline. */
  constructor(onChoose: (problem: ProblemView) => void) {
    this.#onChoose = onChoose;
  }

  /** Returns those that are new. */
  show(
    problems: readonly ProblemView[],
    report: string,
    attempt: number,
    end: EndView | undefined,
  ): readonly ProblemView[] {
    this.#empty.hidden = problems.length > 0 || end !== undefined;
    setText(this.#empty, `No problem has been seen${attempt > 0 ? " since then" : ""}.`);
    const ids = new Set(problems.map(({ id }) => id));
    for (const [id, { line }] of this.#items) {
      if (ids.has(id)) continue;
      line.remove();
      this.#items.delete(id);
    }
    const fresh: ProblemView[] = [];
    let before: Element | undefined;
    for (const view of problems) {
      const known = this.#items.get(view.id);
      if (known === undefined) fresh.push(view);
      const item = known ?? this.#add(view);
      item.view = view;
      setText(item.title, view.title);
      setLines(item.detail, view.detail);
      const place = before === undefined ? this.#list.firstElementChild : before.nextElementSibling;
      if (place !== item.line) this.#list.insertBefore(item.line, place);
      before = item.line;
    }
    if (end !== undefined) {
      const text = `${report || "all ranks succeeded"}\nthis page does not change any more`;
      this.#showReport(`The job has ended with exit code ${end.exitCode}`, text);
    } else if (report !== "") this.#showReport("What has failed before", report);
    return fresh;
  }

  #add(view: ProblemView): Item {
    const line = document.createElement("li");
    setAttribute(line, "data-kind", view.kind);
    const kind = document.createElement("span");
    kind.className = "kind";
    kind.textContent = names[view.kind];
    const title = document.createElement("h2");
    const detail = document.createElement("div");
    detail.className = "detail";
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Show in timeline";
    line.append(kind, title, button, detail);
    const item = { line, title, detail, view };
    button.addEventListener("click", () => this.#onChoose(item.view));
    this.#items.set(view.id, item);
    return item;
  }

  #showReport(title: string, text: string): void {
    this.#end.hidden = false;
    setText(element("h2", HTMLElement, this.#end), title);
    setLines(element(".detail", HTMLElement, this.#end), text);
  }
}
