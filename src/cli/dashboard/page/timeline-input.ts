import { ZOOM } from "./time-window.ts";
import { GUTTER } from "./timeline-scene.ts";

/** In CSS pixels from the top left of the picture. */
export interface Place {
  readonly x: number;
  readonly y: number;
}

/** What the mouse and the keyboard act on. */
export interface TimelineTarget {
  /** Moves by a part of what is shown. */
  pan(part: number): void;
  /** Shows `factor` times as much; what is at `place` (0 to 1) stays there. */
  zoom(factor: number, place?: number): void;
  hoverAt(place: Place | undefined): void;
  chooseAt(place: Place): void;
  enter(): void;
  /** Whether the key means something. */
  obey(key: string): boolean;
}

/** A pointer that moves by less is not dragging. */
const DRAG_PIXELS = 3;

/** Passes on what is done with the canvas of the timeline. */
export function listen(canvas: HTMLCanvasElement, target: TimelineTarget): void {
  const room = () => Math.max(1, canvas.clientWidth - GUTTER);
  const placeOf = ({ offsetX, offsetY }: MouseEvent): Place => ({ x: offsetX, y: offsetY });
  let drag: { x: number; hasMoved: boolean } | undefined;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    drag = { x: event.clientX, hasMoved: false };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (drag === undefined || !(drag.hasMoved || Math.abs(event.clientX - drag.x) > DRAG_PIXELS)) {
      target.hoverAt(placeOf(event));
      return;
    }
    target.pan((drag.x - event.clientX) / room());
    drag = { x: event.clientX, hasMoved: true };
  });
  canvas.addEventListener("pointerup", (event) => {
    if (drag?.hasMoved === false) target.chooseAt(placeOf(event));
    drag = undefined;
  });
  canvas.addEventListener("pointercancel", () => {
    drag = undefined;
  });
  canvas.addEventListener("pointerleave", () => target.hoverAt(undefined));
  canvas.addEventListener(
    "wheel",
    (event) => {
      const across = event.shiftKey ? event.deltaY : event.deltaX;
      if (event.ctrlKey) {
        const place = Math.min(1, Math.max(0, (event.offsetX - GUTTER) / room()));
        target.zoom(event.deltaY > 0 ? ZOOM : 1 / ZOOM, place);
      } else if (across !== 0) target.pan(Math.sign(across) * 0.1);
      else return;
      event.preventDefault();
    },
    { passive: false },
  );
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (target.obey(event.key)) event.preventDefault();
  });
  canvas.addEventListener("focus", () => target.enter());
}
