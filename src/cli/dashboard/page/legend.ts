import { kindLooks } from "./op-kinds.ts";

/** What the colours, letters and patterns of the timeline mean. */
export function legend(): HTMLElement[] {
  const kinds = Object.entries(kindLooks).map(([kind, { letter, name }]) => [kind, letter, name] as const);
  return [...kinds, ["failed", "×", "failed"] as const].map(([kind, letter, name]) => {
    const item = document.createElement("li");
    const sign = document.createElement("b");
    sign.textContent = letter;
    sign.dataset.kind = kind;
    sign.setAttribute("aria-hidden", "true");
    item.append(sign, name);
    return item;
  });
}
