import type { Place } from "../desync/place.ts";
import { PageTable } from "../docs/page-table.ts";
import { type Cell, localPlaces } from "./cell.ts";
import { collectiveFaults } from "./collective-faults.ts";
import { collectivesNotHere } from "./correct-collectives.ts";
import { messagesNotHere } from "./correct-messages.ts";
import type { Outcome } from "./judge.ts";
import { messageFaults, moreFaults } from "./message-faults.ts";
import { correct, faulty, nameOf, type Program } from "./program.ts";
import type { CellResult } from "./run-programs.ts";
import { type End, endAt, type Faulty, isHere, type Mode, modes, type NotHere } from "./shape.ts";
import type { Verdict } from "./verdict.ts";

export const corrbenchTable: PageTable = new PageTable(
  new URL("../../docs/corrbench.md", import.meta.url),
  "bun test/corrbench/table.ts --write",
);

/** From the worst to the best. */
const outcomes: readonly Outcome[] = ["false alarm", "misnamed", "missed", "named", "quiet"];

/** The outcome of a program at a place in a mode: the worst of its runs. */
function outcomeAt(results: readonly CellResult[], program: string, place: Place, mode: Mode): Outcome | undefined {
  const those = results.filter(({ cell }) => cell.program === program && cell.place === place && cell.mode === mode);
  return outcomes.find((outcome) => those.some((result) => result.outcome === outcome));
}

/** The outcomes of a program at a place; one word if the modes agree. */
function wordsAt(results: readonly CellResult[], program: string, place: Place): string {
  const words = modes.map((mode) => outcomeAt(results, program, place, mode) ?? "-");
  return new Set(words).size === 1 ? `${words[0]}` : words.map((word, i) => `${word} (${modes[i]})`).join(", ");
}

export function tableOf(results: readonly CellResult[]): string {
  const faults: readonly (Faulty | NotHere)[] = [...collectiveFaults, ...messageFaults];
  return [
    "## In numbers\n",
    summary(results, faults),
    "## Collectives\n",
    programTable(results, collectiveFaults),
    "## Messages\n",
    programTable(results, messageFaults),
    "## More\n",
    programTable(results, moreFaults),
    "## Not here\n",
    notHereTable(faults),
    "## Correct programs\n",
    correctTable(results),
  ].join("\n");
}

const head = (...columns: readonly string[]): string =>
  `| ${columns.join(" | ")} |\n|${columns.map(() => "---|").join("")}\n`;
const row = (...columns: readonly string[]): string => `| ${columns.join(" | ")} |\n`;
const placeNames = localPlaces.map(({ name }) => name);

function summary(results: readonly CellResult[], faults: readonly (Faulty | NotHere)[]): string {
  const columns = ["backend", "named rightly", "named otherwise", "missed", "no fault here", "not here"];
  const missing = faults.filter((program) => !isHere(program)).length;
  const lines = localPlaces.flatMap((place) =>
    modes.map((mode) => {
      const number = (of: readonly Program[], wanted: Outcome): string =>
        String(of.filter((program) => outcomeAt(results, nameOf(program), place, mode) === wanted).length);
      return row(
        ...[`${place.name}, ${mode}`, number(faulty, "named"), number(faulty, "misnamed"), number(faulty, "missed")],
        ...[number(faulty, "quiet"), String(missing), number(correct, "quiet")],
        String(Number(number(faulty, "false alarm")) + Number(number(correct, "false alarm"))),
      );
    }),
  );
  return head(...columns, "correct programs", "false alarms") + lines.join("");
}

function programTable(results: readonly CellResult[], rows: readonly (Faulty | NotHere)[]): string {
  const lines = rows.filter(isHere).map((program) => {
    const at = localPlaces.map((place) => wordsAt(results, program.program, place));
    return row(program.program, program.fault, sayingOf(program), ...at);
  });
  return head("program", "fault", "what the ranks say", ...placeNames) + lines.join("");
}

/** What two ranks that await are expected to say, by place if it differs. */
function sayingOf(program: Faulty): string {
  const byText = Map.groupBy(localPlaces, (place) => textOfEnd(endAt(program, place), place));
  const [[usual = ""] = [], ...others] = byText;
  const placesOf = (those: readonly Place[]): string => those.map(({ name }) => name).join(", ");
  if (others.length === 0) return usual;
  // Ranks that need nothing of the rank at fault.
  const spared = others.filter(([text]) => withoutFinish(text) === withoutFinish(usual));
  if (spared.length === others.length) {
    return `${usual}. Some may finish: ${placesOf(spared.flatMap(([, those]) => those))}`;
  }
  return Array.from(byText, ([text, those]) => `${placesOf(those)}: ${text}`).join(". ");
}

/** With the same said by all ranks said once. */
function withoutFinish(text: string): string {
  const said = text.replaceAll(" or finishes", "");
  const [, zero, one] = /^0: (.*); 1: (.*)$/.exec(said) ?? [];
  return zero !== undefined && zero === one ? zero : said;
}

function textOfEnd(end: End, place: Place): string {
  if (end.kind !== "found") return end.reason;
  const [zero = "", one = ""] = [0, 1].map((rank) =>
    end.by({ rank, size: 2, mode: "await", place }).map(textOfVerdict).join(" or "),
  );
  return zero === one ? zero : `0: ${zero}; 1: ${one}`;
}

function textOfVerdict(verdict: Verdict): string {
  switch (verdict.kind) {
    case "finishes":
      return "finishes";
    case "refused":
      return `INVALID_ARGUMENT, \`${verdict.argument}\` of ${verdict.op ?? "`tensor()`"}`;
    case "unsupported":
      return `UNSUPPORTED_OPERATION, \`${verdict.argument}\` of ${verdict.op}`;
    case "not initialized":
      return "NOT_INITIALIZED";
    case "missing":
      return `OP_TIMEOUT of ${verdict.op}, rank ${verdict.peers.join(", ")} is missing`;
    case "crossed":
      return `OP_TIMEOUT of ${verdict.op}, ranks ${verdict.peers.join(" and ")} wait for each other`;
    case "desync":
      return `DESYNC, ${verdict.calls.map(({ call, ranks }) => `rank ${ranks.join(", ")} ${call}`).join(", ")}`;
    case "size":
      return `DESYNC, ${verdict.sent.text} and ${verdict.expected.text}`;
  }
}

function notHereTable(rows: readonly (Faulty | NotHere)[]): string {
  const lines = rows.flatMap((program) =>
    isHere(program) ? [] : [row(program.program, program.fault, program.notHere)],
  );
  return head("program", "fault", "why it cannot be written") + lines.join("");
}

function correctTable(results: readonly CellResult[]): string {
  const lines = correct.map((program) => {
    const at = localPlaces.map((place) => wordsAt(results, program.name, place));
    return row(program.name, program.programs.join(", "), ...at);
  });
  const missing = [...collectivesNotHere, ...messagesNotHere].map(({ reason, programs }) =>
    row(`not here: ${reason}`, programs.join(", "), ...placeNames.map(() => "-")),
  );
  return head("program", "stands for", ...placeNames) + [...lines, ...missing].join("");
}

/** The columns of a program on the page after its name. */
export function columnsOnPage(program: string): readonly string[] | undefined {
  const start = `| ${program} | `;
  const line = corrbenchTable
    .read()
    .split("\n")
    .find((each) => each.startsWith(start));
  return line?.slice(start.length, -2).split(" | ");
}

/** What the page says of a program at a place in a mode. */
export function outcomeOnPage({ program, place, mode }: Omit<Cell, "worldSize">): string | undefined {
  const words = columnsOnPage(program)?.slice(-localPlaces.length)[localPlaces.indexOf(place)];
  return words
    ?.split(", ")
    .find((word) => !word.includes("(") || word.endsWith(`(${mode})`))
    ?.replace(/ \(.*/, "");
}
