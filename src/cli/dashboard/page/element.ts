/** The element of the page that a selector names. @throws Error if it is not there, or of another kind. */
export function element<E extends Element>(selector: string, kind: new () => E, within: ParentNode = document): E {
  const found = within.querySelector(selector);
  if (found instanceof kind) return found;
  throw new Error(`the page has no ${selector}`);
}

/** Sets a text only if it has changed, so that a selection and what screen readers have read stay. */
export function setText(target: Element, text: string): void {
  if (target.textContent !== text) target.textContent = text;
}

/** From then on what is continued of a long line is not shown further to the right. */
const MAX_INDENT = 8;

/** Sets a text of several lines, with their indentation, which what is continued of a long line has as well. */
export function setLines(target: Element, text: string): void {
  const lines = text.split("\n");
  for (const [i, line] of lines.entries()) {
    const known = target.children[i];
    const shown = known instanceof HTMLElement ? known : target.appendChild(document.createElement("p"));
    shown.style.setProperty("--indent", String(Math.min(MAX_INDENT, line.search(/\S|$/))));
    setText(shown, line.trimEnd());
  }
  while (target.children.length > lines.length) target.lastElementChild?.remove();
}

export function setAttribute(target: Element, name: string, value: string): void {
  if (target.getAttribute(name) !== value) target.setAttribute(name, value);
}
