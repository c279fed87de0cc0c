import { durationText } from "../../../time/duration-text.ts";
import { drawBar, line, outline } from "./bar-drawing.ts";
import { labelsOf } from "./op-kinds.ts";
import { endOf, type Lane, rowsOf } from "./op-lanes.ts";
import type { OpView } from "./snapshot.ts";
import { tickMs, timeText } from "./time-window.ts";
import { AXIS, BAR, GUTTER, LANE, type TimelineScene, xOf } from "./timeline-scene.ts";

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
  const { width, palette, from, to, now } = scene;
  const mark = markOf(scene, lane);
  const middle = top + LANE / 2;
  context.font = `${mark === "" ? "" : "bold "}13px ${palette.font}`;
  context.fillStyle = mark === "" ? palette.text : palette.late;
  const name = `${mark}rank ${lane.rank}`;
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
  if (placed.length === 0) drawEarlier(context, scene, lane, middle);
  context.restore();
}

/** What the name of a lane begins with if its rank stands out, as in the table of ranks. */
function markOf({ lateRanks, failedRanks }: TimelineScene, { rank }: Lane): string {
  if (failedRanks.has(rank)) return "× ";
  return lateRanks.has(rank) ? "! " : "";
}

/** In a lane without bars: that there are some earlier than what is shown, and which is the last of them. */
function drawEarlier(context: CanvasRenderingContext2D, scene: TimelineScene, lane: Lane, middle: number): void {
  const op = lastBefore(lane, scene.from);
  if (op === undefined) return;
  const { palette, now } = scene;
  context.font = `12px ${palette.font}`;
  context.fillStyle = op.hasFailed ? palette.late : palette.dim;
  const how = `${op.hasFailed ? "failed" : "ended"} ${durationText(Math.round(now - endOf(op, now)))} ago`;
  context.fillText(`◀ ${labelsOf(op)[0]} ${how}`, GUTTER + 6, middle);
}

/** The last op of a lane that began before a time. */
function lastBefore({ ops }: Lane, time: number): OpView | undefined {
  return ops.findLast(({ began }) => began < time);
}

function drawGround(
  context: CanvasRenderingContext2D,
  scene: TimelineScene,
  lane: Lane,
  top: number,
  index: number,
): void {
  const { width, palette } = scene;
  const isMarked = markOf(scene, lane) !== "";
  if (index % 2 === 0 && !isMarked) return;
  context.fillStyle = isMarked ? palette.lateBack : palette.stripe;
  context.fillRect(0, top, width, LANE);
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

/** The op at a place of the picture; in a lane that shows none, the last of those before. */
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
  if (x >= GUTTER && placed.length === 0) return { lane, op: lastBefore(lane, scene.from) };
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
