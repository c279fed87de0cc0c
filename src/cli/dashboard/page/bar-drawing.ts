import { kindLooks, kindOf, labelsOf, type Pattern } from "./op-kinds.ts";
import type { OpView } from "./snapshot.ts";
import { GUTTER, type TimelineScene } from "./timeline-scene.ts";

export function drawBar(
  context: CanvasRenderingContext2D,
  { palette, selected, hovered, width: sceneWidth }: TimelineScene,
  op: OpView,
  left: number,
  width: number,
  y: number,
  height: number,
): void {
  const kind = kindOf(op.op);
  const { pattern } = kindLooks[kind];
  const { fill, edge: own } = palette.kinds[kind];
  const edge = op.hasFailed ? palette.failed : own;
  context.fillStyle = width < 3 ? edge : fill;
  context.fillRect(left, y, width, height);
  // What is far outside of the picture takes time, too.
  const [start, end] = [Math.max(left, GUTTER - 10), Math.min(left + width, sceneWidth + 10)];
  if (width >= 8) drawPattern(context, pattern, own, start, y, end - start, height);
  if (width >= 3) {
    context.strokeStyle = edge;
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
    context.font = `bold 12px ${palette.font}`;
    const labels = labelsOf(op);
    const text = labels.find((label) => context.measureText(label).width <= room) ?? labels.at(-1) ?? "";
    const x = Math.max(start, GUTTER) + 3;
    // A plain ground, so that the pattern does not cross the letters.
    context.fillStyle = fill;
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

export function line(context: CanvasRenderingContext2D, fromX: number, fromY: number, toX: number, toY: number): void {
  context.moveTo(fromX, fromY);
  context.lineTo(toX, toY);
}

export function outline(
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
