import type { EpochTime } from "./epoch-time.ts";
import type { Score } from "./trainer.ts";

/** One epoch in the chart. */
export interface ChartEpoch {
  readonly train: Score;
  readonly test: Score;
  readonly time: Pick<EpochTime, "computeMs" | "hiddenMs" | "waitedMs" | "totalMs">;
}

export interface ChartData {
  readonly title: string;
  readonly subtitle: string;
  /** Training loss of every step. */
  readonly stepLosses: readonly number[];
  readonly epochs: readonly ChartEpoch[];
}

interface Box {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

/** Linear map of [from, to] onto the plot; `to` of y is at the top. */
interface Axis {
  readonly from: number;
  readonly to: number;
  readonly ticks: readonly number[];
}

type Point = readonly [x: number, y: number];

const WIDTH = 960;
const HEIGHT = 640;
const LOSS: Box = { left: 70, top: 130, width: 370, height: 220 };
const ACCURACY: Box = { left: 550, top: 130, width: 370, height: 220 };
const TIME: Box = { left: 70, top: 450, width: 850, height: 120 };

const INK = "#1f2937";
const MUTED = "#6b7280";
const GRID = "#e5e7eb";
const TRAIN = "#2563eb";
const TRAIN_LIGHT = "#bfdbfe";
const TEST = "#ea580c";
const COMPUTE = "#0d9488";
const HIDDEN = "#99d5cf";
const WAITED = "#f59e0b";

/** Curves of loss and accuracy and the time split of each epoch, as an SVG document. */
export function renderChart(data: ChartData): string {
  const parts = [
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#ffffff"/>`,
    text(30, 42, data.title, { size: 22, weight: 600 }),
    text(30, 66, data.subtitle, { size: 13, fill: MUTED }),
    lossPanel(data),
    accuracyPanel(data.epochs),
    timePanel(data.epochs),
  ];
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${HEIGHT}" viewBox="0 0 ${WIDTH} ${HEIGHT}"` +
      ` font-family="system-ui, 'Helvetica Neue', Arial, sans-serif" role="img">`,
    `<title>${escapeXml(data.title)}</title>`,
    ...parts,
    "</svg>",
    "",
  ].join("\n");
}

function lossPanel({ epochs, stepLosses }: ChartData): string {
  const train = finite(epochs.map((epoch, index) => [index + 1, epoch.train.loss]));
  const test = finite(epochs.map((epoch, index) => [index + 1, epoch.test.loss]));
  const steps = finite(stepLosses.map((loss, index) => [((index + 1) / stepLosses.length) * epochs.length, loss]));
  // The first steps of an untrained net would flatten everything after them, so they are cut off at the top.
  const top = 1.15 * Math.max(...[...train, ...test].map(([, loss]) => loss), 1e-6);
  const x = epochAxis(epochs.length);
  const y = niceAxis(0, top);
  const shown = steps.filter(([, loss]) => loss <= y.to);
  return [
    frame(LOSS, "Loss (cross-entropy)", "epoch", x, y, (value) => number(value)),
    line(LOSS, x, y, shown, TRAIN_LIGHT, 1),
    curve(LOSS, x, y, train, TRAIN),
    curve(LOSS, x, y, test, TEST),
    legend(LOSS, [
      ["each step", TRAIN_LIGHT],
      ["train", TRAIN],
      ["test", TEST],
    ]),
  ].join("\n");
}

function accuracyPanel(epochs: readonly ChartEpoch[]): string {
  const train = epochs.map((epoch, index): Point => [index + 1, 100 * epoch.train.accuracy]);
  const test = epochs.map((epoch, index): Point => [index + 1, 100 * epoch.test.accuracy]);
  const lowest = Math.min(100, ...[...train, ...test].map(([, accuracy]) => accuracy));
  const x = epochAxis(epochs.length);
  const y = niceAxis(Math.max(0, lowest - 0.1 * (100 - lowest)), 100);
  const last = test.at(-1);
  return [
    frame(ACCURACY, "Accuracy", "epoch", x, y, (value) => `${number(value)} %`),
    curve(ACCURACY, x, y, train, TRAIN),
    curve(ACCURACY, x, y, test, TEST),
    last === undefined ? "" : label(ACCURACY, x, y, last, `${last[1].toFixed(1)} %`),
    legend(ACCURACY, [
      ["train", TRAIN],
      ["test", TEST],
    ]),
  ].join("\n");
}

// The losses of a training that diverged are NaN or infinite; its chart shows how far it got.
function finite(points: readonly Point[]): Point[] {
  return points.filter(([, value]) => Number.isFinite(value));
}

function timePanel(epochs: readonly ChartEpoch[]): string {
  const x = { from: 0.5, to: epochs.length + 0.5, ticks: epochAxis(epochs.length).ticks.filter((tick) => tick > 0) };
  const y = niceAxis(0, Math.max(1, ...epochs.map(({ time }) => time.totalMs)), 3);
  const columns = epochs.flatMap(({ time: { computeMs, hiddenMs, totalMs } }, index) => {
    const part = (from: number, to: number, fill: string) => {
      const [left, bottom] = place(TIME, x, y, [index + 0.75, from]);
      const [right, top] = place(TIME, x, y, [index + 1.25, to]);
      return `<rect x="${px(left)}" y="${px(top)}" width="${px(right - left)}" height="${px(bottom - top)}" fill="${fill}"/>`;
    };
    const hidden = computeMs + hiddenMs;
    return [part(0, computeMs, COMPUTE), part(computeMs, hidden, HIDDEN), part(hidden, totalMs, WAITED)];
  });
  return [
    frame(TIME, "Time of rank 0 in each epoch", "epoch", x, y, (value) => `${number(value)} ms`),
    ...columns,
    legend(TIME, [
      ["compute", COMPUTE],
      ["communication, hidden", HIDDEN],
      ["communication, waited for", WAITED],
    ]),
  ].join("\n");
}

function frame(box: Box, title: string, xName: string, x: Axis, y: Axis, format: (value: number) => string): string {
  const bottom = box.top + box.height;
  const right = box.left + box.width;
  const rows = y.ticks.map((tick) => {
    const height = place(box, x, y, [x.from, tick])[1];
    const rule = `<path d="M${box.left} ${px(height)}H${right}" stroke="${GRID}"/>`;
    return rule + text(box.left - 8, height + 4, format(tick), { size: 11, fill: MUTED, anchor: "end" });
  });
  const columns = x.ticks.map((tick) => {
    const at = place(box, x, y, [tick, y.from])[0];
    return text(at, bottom + 17, number(tick), { size: 11, fill: MUTED, anchor: "middle" });
  });
  return [
    text(box.left, box.top - 16, title, { size: 14, weight: 600 }),
    ...rows,
    `<path d="M${box.left} ${bottom}H${right}" stroke="${MUTED}"/>`,
    ...columns,
    text(box.left + box.width / 2, bottom + 36, xName, { size: 11, fill: MUTED, anchor: "middle" }),
  ].join("\n");
}

/** Right-aligned above the plot. */
function legend(box: Box, entries: readonly (readonly [name: string, colour: string])[]): string {
  let right = box.left + box.width;
  const drawn: string[] = [];
  for (const [name, colour] of entries.toReversed()) {
    const width = 22 + name.length * 6.2;
    const left = right - width;
    drawn.push(`<rect x="${px(left)}" y="${box.top - 26}" width="12" height="12" rx="3" fill="${colour}"/>`);
    drawn.push(text(left + 17, box.top - 16, name, { size: 12, fill: INK }));
    right = left - 12;
  }
  return drawn.join("\n");
}

function curve(box: Box, x: Axis, y: Axis, points: readonly Point[], colour: string): string {
  const dots = points.map((point) => {
    const [cx, cy] = place(box, x, y, point);
    return `<circle cx="${px(cx)}" cy="${px(cy)}" r="3.5" fill="${colour}" stroke="#ffffff"/>`;
  });
  return [line(box, x, y, points, colour, 2), ...dots].join("\n");
}

function line(box: Box, x: Axis, y: Axis, points: readonly Point[], colour: string, width: number): string {
  const path = points.map((point) => place(box, x, y, point).map(px).join(",")).join(" ");
  const stroke = `stroke="${colour}" stroke-width="${width}" stroke-linejoin="round"`;
  return `<polyline points="${path}" fill="none" ${stroke}/>`;
}

function label(box: Box, x: Axis, y: Axis, point: Point, content: string): string {
  const [cx, cy] = place(box, x, y, point);
  return text(cx - 4, cy + 20, content, { size: 12, weight: 600, fill: TEST, anchor: "end" });
}

function place(box: Box, x: Axis, y: Axis, [atX, atY]: Point): Point {
  const fractionX = (atX - x.from) / (x.to - x.from);
  const fractionY = (atY - y.from) / (y.to - y.from);
  return [box.left + fractionX * box.width, box.top + (1 - fractionY) * box.height];
}

function epochAxis(epochs: number): Axis {
  const step = Math.max(1, Math.ceil(epochs / 10));
  return {
    from: 0,
    to: Math.max(1, epochs),
    ticks: Array.from({ length: Math.floor(epochs / step) + 1 }, (_, i) => i * step),
  };
}

/** An axis that holds [low, high], with about `count` steps of 1, 2 or 5 × a power of ten; a flat range is widened. */
function niceAxis(low: number, high: number, count = 5): Axis {
  const rough = Math.max(high - low, 1e-6) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = ([1, 2, 5].find((factor) => factor * power >= rough) ?? 10) * power;
  const first = Math.floor(low / step + 1e-9);
  const last = Math.max(first + 1, Math.ceil(high / step - 1e-9));
  const ticks = Array.from({ length: last - first + 1 }, (_, index) => (first + index) * step);
  return { from: first * step, to: last * step, ticks };
}

interface TextStyle {
  readonly size: number;
  readonly fill?: string;
  readonly weight?: number;
  readonly anchor?: "middle" | "end";
}

function text(x: number, y: number, content: string, style: TextStyle): string {
  const { size, fill = INK, weight = 400, anchor = "start" } = style;
  const look = `font-size="${size}" fill="${fill}" font-weight="${weight}" text-anchor="${anchor}"`;
  return `<text x="${px(x)}" y="${px(y)}" ${look}>${escapeXml(content)}</text>`;
}

function px(value: number): string {
  return String(Math.round(value * 100) / 100);
}

function number(value: number): string {
  return String(Number(value.toPrecision(6)));
}

function escapeXml(content: string): string {
  return content.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
