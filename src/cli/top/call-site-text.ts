/**
 * A call site such as `src/train/step.ts:41:9` in at most `room` columns: without as many of its folders as need be,
 * then without the column number, and then without the beginning of the file name.
 */
export function callSiteText(site: string, room: number): string {
  const fits = (text: string): boolean => Bun.stringWidth(text) <= room;
  if (fits(site)) return site;
  const [name = "", ...folders] = site.split(/[/\\]/).reverse();
  let end = name;
  for (const folder of folders) {
    const longer = `${folder}/${end}`;
    if (!fits(`…/${longer}`)) break;
    end = longer;
  }
  if (end !== name) return `…/${end}`;
  if (fits(name)) return name;
  const line = name.replace(/(:\d+):\d+$/, "$1");
  if (fits(line)) return line;
  const characters = [...line];
  while (characters.length > 0 && !fits(`…${characters.join("")}`)) characters.shift();
  return `…${characters.join("")}`;
}

/** Columns that a call site takes at least: its file name and line. */
export function leastSiteWidth(site: string): number {
  return Bun.stringWidth(site.replace(/^.*[/\\]/, "").replace(/(:\d+):\d+$/, "$1"));
}
