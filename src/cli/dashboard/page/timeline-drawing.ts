import { kindLooks, kindOf, type Pattern } from "./op-kinds.ts";
import { endOf, type Lane, rowsOf } from "./op-lanes.ts";
import type { Palette } from "./palette.ts";
import type { OpView } from "./snapshot.ts";
import { tickMs, timeText } from "./time-window.ts";

export const LANE = 24;
export const AXIS = 24;
export const GUTTER = 128;
const BAR = 18;

/** What is drawn at one moment. Sizes are in CSS pixels. */
export interface TimelineScene {
  readonly width: number;
  readonly height: number;
  readonly lanes: readonly Lane[];
  /** By how much the lanes are scrolled. */
  readonly scrolled: number;
  readonly from: number;
  readonly to: number;
  readonly now: number;
  /** What times are counted from. */
  readonly startedAt: number;
  readonly lateRanks: ReadonlySet<number>;
  readonly selected: string | undefined;
  readonly hovered: string | undefined;
  /** Lane that the keyboard is in. */
  readonly lane: string | undefined;
  readonly palette: Palette;
}

export function drawTimeline(context: CanvasRenderingContext2D, scene: TimelineScene): void {
  const { width, height, lanes, scrolled, palette } = scene;
  context.fillStyle = palette.back;
  context.fillRect(0, 0, width, height);
  context.textBaseline = "middle";
  const first = Math.max(0, Math.floor(scrolled / LANE));
  const last = Math.min(lanes.length, Math.ceil((scrolled + height - AXIS) / LANE));
  const ticks = ticksOf(scene);
  context.save();
  context.beginPath();
  context.rect(0, AXIS, width, height - AXIS);
  context.clip();
  for (let i = first; i < last; i++) {
    const lane = lanes[i];
    if (lane !== undefined) drawGround(context, scene, lane, AXIS + i * LANE - scrolled, i);
  }
  drawGrid(context, scene, ticks);
  for (let i = first; i < last; i++) {
    const lane = lanes[i];
    if (lane !== undefined) drawLane(context, scene, lane, AXIS + i * LANE - scrolled);
  }
  context.restore();
  drawAxis(context, scene, ticks);
}

function drawLane(context: CanvasRenderingContext2D, scene: TimelineScene, lane: Lane, top: number): void {
  const { width, palette, from, to, now, lateRanks } = scene;
  const isLate = lateRanks.has(lane.rank);
  const middle = top + LANE / 2;
  context.font = `${isLate ? "bold " : ""}13px ${palette.font}`;
  context.fillStyle = isLate ? palette.late : palette.text;
  const name = `${isLate ? "! " : ""}rank ${lane.rank}`;
  context.fillText(name, 8, middle);
  const after = 8 + context.measureText(name).width + 8;
  context.font = `12px ${palette.font}`;
  context.fillStyle = palette.dim;
  context.fillText(groupLabel(context, lane.group, GUTTER - 6 - after), after, middle);
  if (lane.key === scene.lane) outline(context, palette.accent, 1, top + 1, GUTTER - 3, LANE - 2);
  context.save();
  context.beginPath();
  context.rect(GUTTER, top, width - GUTTER, LANE);
  context.clip();
  const { placed, rows } = rowsOf(lane.ops, from, to, now);
  const thickness = BAR / rows;
  const drawnTo = Array.from({ length: rows }, () => Number.NEGATIVE_INFINITY);
  for (const [op, row] of placed) {
    const [left, right] = [xOf(scene, op.began), xOf(scene, endOf(op, now))];
    const isChosen = op.id === scene.selected || op.id === scene.hovered;
    // Bars that are thinner than a pixel would be drawn over each other.
    if (right < (drawnTo[row] ?? 0) + 0.5 && !isChosen && !op.hasFailed) continue;
    drawnTo[row] = right;
    const y = top + (LANE - BAR) / 2 + row * thickness;
    drawBar(context, scene, op, left, Math.max(right - left, 1.5), y, thickness - (rows > 1 ? 1 : 0));
  }
  context.restore();
}

function drawGround(
  context: CanvasRenderingContext2D,
  { width, palette, lateRanks }: TimelineScene,
  lane: Lane,
  top: number,
  index: number,
): void {
  const isLate = lateRanks.has(lane.rank);
  if (index % 2 === 0 && !isLate) return;
  context.fillStyle = isLate ? palette.lateBack : palette.stripe;
  context.fillRect(0, top, width, LANE);
}

function drawBar(
  context: CanvasRenderingContext2D,
  { palette, selected, hovered, width: sceneWidth }: TimelineScene,
  op: OpView,
  left: number,
  width: number,
  y: number,
  height: number,
): void {
  const kind = kindOf(op.op);
  const { letter, pattern } = kindLooks[kind];
  const ink = op.hasFailed ? palette.failed : palette.kinds[kind];
  context.fillStyle = width < 3 ? ink.edge : ink.fill;
  context.fillRect(left, y, width, height);
  // What is far outside of the picture takes time, too.
  const [start, end] = [Math.max(left, GUTTER - 10), Math.min(left + width, sceneWidth + 10)];
  if (width >= 8) drawPattern(context, op.hasFailed ? "plain" : pattern, ink.edge, start, y, end - start, height);
  if (width >= 3) {
    context.strokeStyle = ink.edge;
    context.lineWidth = op.hasFailed ? 2 : 1;
    // The end of an op that has not ended itself is open.
    context.beginPath();
    context.moveTo(end, y + 0.5);
    context.lineTo(start + 0.5, y + 0.5);
    context.lineTo(start + 0.5, y + height - 0.5);
    context.lineTo(end, y + height - 0.5);
    if (op.ended !== undefined && !op.wasCut) context.closePath();
    context.stroke();
  }
  const room = end - Math.max(start, GUTTER) - 6;
  if (height >= 12 && room >= 9) {
    const mark = op.hasFailed ? "×" : letter;
    context.font = `bold 12px ${palette.font}`;
    const name = `${mark} ${op.text.replace(/ on group .*/, "")}`;
    const text = context.measureText(name).width <= room ? name : mark;
    const x = Math.max(start, GUTTER) + 3;
    // A plain ground, so that the pattern does not cross the letters.
    context.fillStyle = ink.fill;
    context.fillRect(x - 1, y + 2, context.measureText(text).width + 2, height - 4);
    context.fillStyle = palette.text;
    context.fillText(text, x, y + height / 2 + 0.5);
  }
  if (op.id === selected) outline(context, palette.accent, start - 1, y - 1, end - start + 2, height + 2, 2.5);
  else if (op.id === hovered) outline(context, palette.text, start, y, end - start, height);
}

function drawPattern(
  context: CanvasRenderingContext2D,
  pattern: Pattern,
  colour: string,
  left: number,
  y: number,
  width: number,
  height: number,
): void {
  if (pattern === "plain") return;
  context.save();
  context.beginPath();
  context.rect(left, y, width, height);
  context.clip();
  context.globalAlpha = 0.4;
  context.strokeStyle = colour;
  context.lineWidth = 1;
  context.beginPath();
  // Counted from the edge of the picture, so that patterns do not move within a bar that is cut off.
  const step = 6;
  if (pattern === "level") {
    for (let at = y + 3; at < y + height; at += 4) line(context, left, at, left + width, at);
  }
  for (let at = left - height; pattern !== "level" && at < left + width; at += step) {
    if (pattern === "upright") line(context, at, y, at, y + height);
    if (pattern === "rising" || pattern === "crossed") line(context, at, y + height, at + height, y);
    if (pattern === "falling" || pattern === "crossed") line(context, at, y, at + height, y + height);
  }
  context.stroke();
  context.restore();
}

function line(context: CanvasRenderingContext2D, fromX: number, fromY: number, toX: number, toY: number): void {
  context.moveTo(fromX, fromY);
  context.lineTo(toX, toY);
}

function outline(
  context: CanvasRenderingContext2D,
  colour: string,
  x: number,
  y: number,
  width: number,
  height: number,
  thickness = 1.5,
): void {
  context.strokeStyle = colour;
  context.lineWidth = thickness;
  context.strokeRect(x, y, width, height);
}

interface Ticks {
  readonly stepMs: number;
  /** Since the start. */
  readonly times: readonly number[];
}

function ticksOf({ width, from, to, startedAt }: TimelineScene): Ticks {
  const stepMs = tickMs(((to - from) / Math.max(1, width - GUTTER)) * 96);
  // Nothing happened before the start.
  const first = Math.max(0, Math.ceil((from - startedAt) / stepMs));
  const count = Math.max(0, Math.floor((to - startedAt) / stepMs) + 1 - first);
  return { stepMs, times: Array.from({ length: count }, (_, i) => (first + i) * stepMs) };
}

/** Lines at the marks, below the bars. */
function drawGrid(context: CanvasRenderingContext2D, scene: TimelineScene, { times }: Ticks): void {
  const { height, startedAt, palette } = scene;
  context.strokeStyle = palette.line;
  context.lineWidth = 1;
  context.beginPath();
  for (const time of times) {
    const x = Math.round(xOf(scene, time + startedAt)) + 0.5;
    if (x > GUTTER) line(context, x, AXIS, x, height);
  }
  context.stroke();
}

function drawAxis(context: CanvasRenderingContext2D, scene: TimelineScene, { times, stepMs }: Ticks): void {
  const { width, height, now, startedAt, palette } = scene;
  context.font = `12px ${palette.font}`;
  context.lineWidth = 1;
  context.strokeStyle = palette.line;
  context.fillStyle = palette.dim;
  context.fillText("since the start", 8, AXIS / 2);
  context.beginPath();
  for (const time of times) {
    const x = Math.round(xOf(scene, time + startedAt)) + 0.5;
    if (x < GUTTER) continue;
    line(context, x, AXIS - 6, x, AXIS);
    const label = timeText(time, stepMs);
    if (x + 4 + context.measureText(label).width < width) context.fillText(label, x + 4, AXIS / 2);
  }
  line(context, 0, AXIS - 0.5, width, AXIS - 0.5);
  line(context, GUTTER - 0.5, 0, GUTTER - 0.5, height);
  context.stroke();
  const x = xOf(scene, now);
  if (x < GUTTER || x > width) return;
  context.strokeStyle = palette.accent;
  context.beginPath();
  line(context, x, AXIS - 8, x, height);
  context.stroke();
}

function xOf({ from, to, width }: Pick<TimelineScene, "from" | "to" | "width">, time: number): number {
  return GUTTER + ((time - from) / (to - from)) * (width - GUTTER);
}

/** The name of a group, of which the end tells it from others. */
function groupLabel(context: CanvasRenderingContext2D, group: string, room: number): string {
  const label = `group ${group}`;
  if (context.measureText(label).width <= room) return label;
  if (context.measureText(group).width <= room) return group;
  for (let length = group.length - 1; length > 0; length--) {
    const short = `…${group.slice(-length)}`;
    if (context.measureText(short).width <= room) return short;
  }
  return "";
}

/** The op at a place of the picture. */
export function opAt(
  scene: TimelineScene,
  x: number,
  y: number,
): { readonly lane: Lane; readonly op: OpView | undefined } | undefined {
  if (y < AXIS) return undefined;
  const index = Math.floor((y - AXIS + scene.scrolled) / LANE);
  const lane = scene.lanes[index];
  if (lane === undefined) return undefined;
  const { placed, rows } = rowsOf(lane.ops, scene.from, scene.to, scene.now);
  const inLane = y - (AXIS + index * LANE - scene.scrolled) - (LANE - BAR) / 2;
  const row = Math.max(0, Math.min(rows - 1, Math.floor(inLane / (BAR / rows))));
  const near = placed.flatMap(([op, its]) => {
    if (its !== row) return [];
    const distance = Math.max(xOf(scene, op.began) - x, x - xOf(scene, endOf(op, scene.now)), 0);
    return distance <= 3 ? [{ op, distance }] : [];
  });
  const [nearest] = near.sort((a, b) => a.distance - b.distance);
  return { lane, op: x < GUTTER ? undefined : nearest?.op };
}
