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

/** Sets a text of several lines; those that begin with a space are shown further to the right. */
export function setLines(target: Element, text: string): void {
  const lines = text.split("\n");
  for (const [i, line] of lines.entries()) {
    const shown = target.children[i] ?? target.appendChild(document.createElement("p"));
    setAttribute(shown, "class", line.startsWith(" ") ? "inner" : "");
    setText(shown, line.trim());
  }
  while (target.children.length > lines.length) target.lastElementChild?.remove();
}

export function setAttribute(target: Element, name: string, value: string): void {
  if (target.getAttribute(name) !== value) target.setAttribute(name, value);
}
