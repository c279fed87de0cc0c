import { element } from "./element.ts";

/** Keys that work everywhere on the page, unless they are turned off in the list of keys, which `?` opens. */
export function addShortcuts(keys: ReadonlyMap<string, () => void>): void {
  const dialog = element("dialog", HTMLDialogElement);
  const areOn = element("#single-keys", HTMLInputElement);
  const open = () => dialog.showModal();
  element("#help", HTMLButtonElement).addEventListener("click", open);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || dialog.open || !areOn.checked) return;
    const act = event.key === "?" ? open : keys.get(event.key);
    if (act === undefined) return;
    event.preventDefault();
    act();
  });
}
