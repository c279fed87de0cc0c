import { element } from "./element.ts";

export const views = ["ranks", "timeline", "problems"] as const;
export type View = (typeof views)[number];

/** The tabs of the views, of which one is shown. */
export class Tabs {
  readonly #onShow: (view: View) => void;
  #shown: View = "ranks";

  constructor(onShow: (view: View) => void) {
    this.#onShow = onShow;
    for (const [i, view] of views.entries()) {
      const tab = this.#tab(view);
      tab.addEventListener("click", () => this.show(view));
      tab.addEventListener("keydown", (event) => {
        const to = { ArrowLeft: i - 1, ArrowRight: i + 1, Home: 0, End: views.length - 1 }[event.key];
        if (to === undefined) return;
        event.preventDefault();
        const next = views[(to + views.length) % views.length] ?? view;
        this.show(next);
        this.#tab(next).focus();
      });
    }
  }

  get shown(): View {
    return this.#shown;
  }

  show(view: View): void {
    this.#shown = view;
    for (const each of views) {
      const isShown = each === view;
      const tab = this.#tab(each);
      tab.setAttribute("aria-selected", String(isShown));
      tab.tabIndex = isShown ? 0 : -1;
      element(`#${each}`, HTMLElement).hidden = !isShown;
    }
    this.#onShow(view);
  }

  #tab(view: View): HTMLButtonElement {
    return element(`#tab-${view}`, HTMLButtonElement);
  }
}
