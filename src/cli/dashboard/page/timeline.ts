import { durationText } from "../../../time/duration-text.ts";
import { laneText, textOf } from "./details-text.ts";
import { element, setText } from "./element.ts";
import { legend } from "./legend.ts";
import { endOf, type Lane, OpLanes } from "./op-lanes.ts";
import { type Palette, readPalette } from "./palette.ts";
import type { OpView, RankTone, Snapshot } from "./snapshot.ts";
import { TimeWindow, ZOOM } from "./time-window.ts";
import { drawTimeline, opAt } from "./timeline-drawing.ts";
import { listen, type Place, type TimelineTarget } from "./timeline-input.ts";
import { AXIS, LANE, type TimelineScene } from "./timeline-scene.ts";

/** Time between two pictures while the timeline follows the job. */
const FRAME_MS = 50;
/** How far the clock runs on when no snapshot comes. */
const MAX_AHEAD_MS = 1_000;

/** A lane for each rank and group, with their ops as bars. */
export class Timeline implements TimelineTarget {
  readonly #lanes = new OpLanes();
  readonly #window = new TimeWindow();
  readonly #canvas = element("#canvas", HTMLCanvasElement);
  readonly #box = element("#timeline .lanes", HTMLElement);
  readonly #spacer = element("#timeline .spacer", HTMLElement);
  readonly #details = element("#details", HTMLElement);
  readonly #pause = element("#pause", HTMLButtonElement);
  readonly #span = element("#window", HTMLElement);
  #palette: Palette | undefined;
  #snapshot: Snapshot | undefined;
  #receivedAt = 0;
  #lateRanks: ReadonlySet<number> = new Set();
  #failedRanks: ReadonlySet<number> = new Set();
  #selected: string | undefined;
  #hovered: string | undefined;
  #lane: string | undefined;
  #scene: TimelineScene | undefined;
  #isDue = false;
  #drawnAt = 0;
  #isShown = false;

  constructor() {
    const click = (id: string, act: () => void) => element(id, HTMLButtonElement).addEventListener("click", act);
    click("#pause", () => this.togglePause());
    click("#earlier", () => this.pan(-0.25));
    click("#later", () => this.pan(0.25));
    click("#zoom-in", () => this.zoom(1 / ZOOM));
    click("#zoom-out", () => this.zoom(ZOOM));
    listen(this.#canvas, this);
    const redraw = () => {
      this.#palette = undefined;
      this.#draw();
    };
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    new ResizeObserver(redraw).observe(this.#box);
    this.#box.addEventListener("scroll", () => this.#draw());
    element("#timeline .legend", HTMLElement).append(...legend());
    this.#showDetails();
  }

  /** The page has a new connection, which begins with all ops. */
  clear(): void {
    this.#lanes.clear();
  }

  update(snapshot: Snapshot): void {
    this.#snapshot = snapshot;
    this.#receivedAt = performance.now();
    // At the end of the job the problems say who was late, the ranks only that they have ended.
    const late = snapshot.problems.filter(({ kind }) => kind === "missing").flatMap(({ ranks }) => ranks);
    const ofTone = (tone: RankTone) => snapshot.ranks.flatMap((view) => (view.tone === tone ? [view.rank] : []));
    this.#lateRanks = new Set([...late, ...ofTone("late")]);
    this.#failedRanks = new Set(ofTone("failed"));
    if (snapshot.hasGap) this.#lanes.endOthers(snapshot.ops, snapshot.at);
    this.#lanes.add(snapshot.ops);
    this.#lanes.addRanks(snapshot.ranks.map(({ rank }) => rank));
    for (const { ranks, group } of snapshot.problems) this.#lanes.addRanks(ranks, group);
    const height = `${AXIS + this.#lanes.all.length * LANE}px`;
    if (this.#spacer.style.height !== height) this.#spacer.style.height = height;
    this.#draw();
    if (this.#shownOp?.ended === undefined) this.#showDetails();
  }

  /** Whether the timeline can be seen. */
  set isShown(isShown: boolean) {
    this.#isShown = isShown;
    this.#draw();
  }

  togglePause(): void {
    if (this.#window.isPaused) this.#window.follow();
    else this.#window.pause(this.#now);
    this.#draw();
  }

  pan(part: number): void {
    this.#window.pan(part, this.#now);
    this.#draw();
  }

  zoom(factor: number, place?: number): void {
    this.#window.zoom(factor, place);
    this.#draw();
  }

  zoomIn(): void {
    this.zoom(1 / ZOOM);
  }

  zoomOut(): void {
    this.zoom(ZOOM);
  }

  /** Selects the newest op of a rank, on a group if that is given, and goes there. */
  goTo(rank: number, group?: string): void {
    const lanes = this.#lanes.all.filter((lane) => lane.rank === rank && (group === undefined || lane.group === group));
    const newest = (lane: Lane) => lane.ops.at(-1)?.began ?? 0;
    const [lane] = [...lanes].sort((a, b) => newest(b) - newest(a));
    if (lane !== undefined) this.#select(lane, lane.ops.at(-1));
    this.#canvas.focus();
  }

  /** The time at the launcher. */
  get #now(): number {
    const { at = 0, end } = this.#snapshot ?? {};
    if (end !== undefined) return at;
    return at + Math.min(MAX_AHEAD_MS, performance.now() - this.#receivedAt);
  }

  get #shownOp(): OpView | undefined {
    const id = this.#hovered ?? this.#selected;
    return id === undefined ? undefined : this.#lanes.get(id);
  }

  /** The pointer is at a place of the picture; undefined if it has left. */
  hoverAt(place: Place | undefined): void {
    this.#hover(place && this.#at(place)?.op?.id);
  }

  /** A place of the picture was clicked. */
  chooseAt(place: Place): void {
    const found = this.#at(place);
    // One that is shown stays where it is.
    const isEarlier = found?.op !== undefined && endOf(found.op, this.#now) < this.#window.from(this.#now);
    if (found !== undefined) this.#select(found.lane, found.op, isEarlier);
  }

  /** The keyboard has come to the lanes. */
  enter(): void {
    if (this.#lane === undefined) this.#moveLane(0);
  }

  #at({ x, y }: Place) {
    return this.#scene && opAt(this.#scene, x, y);
  }

  /** Whether the key means something. */
  obey(key: string): boolean {
    const lane = this.#lanes.all.find((each) => each.key === this.#lane);
    const at = lane?.ops.findIndex(({ id }) => id === this.#selected) ?? -1;
    switch (key) {
      case "ArrowUp":
      case "ArrowDown":
        this.#moveLane(key === "ArrowUp" ? -1 : 1);
        return true;
      case "ArrowLeft":
        this.#select(lane, lane?.ops[at < 0 ? lane.ops.length - 1 : Math.max(0, at - 1)]);
        return true;
      case "ArrowRight":
        this.#select(lane, lane?.ops[at < 0 ? lane.ops.length - 1 : Math.min(lane.ops.length - 1, at + 1)]);
        return true;
      case "Home":
        this.#select(lane, lane?.ops[0]);
        return true;
      case "End":
        this.#select(lane, lane?.ops.at(-1));
        return true;
      case "Enter": {
        const op = this.#selected === undefined ? undefined : this.#lanes.get(this.#selected);
        if (op !== undefined) this.#window.show(op.began, endOf(op, this.#now));
        this.#draw();
        return true;
      }
      case "Escape":
        this.#select(lane, undefined);
        return true;
      default:
        return false;
    }
  }

  /** Goes to another lane, and there to the op that began at about the same time as the selected one. */
  #moveLane(by: number): void {
    const lanes = this.#lanes.all;
    const from = lanes.findIndex(({ key }) => key === this.#lane);
    const lane = lanes[Math.max(0, Math.min(lanes.length - 1, from < 0 ? 0 : from + by))];
    if (lane === undefined) return;
    const op = this.#selected === undefined ? undefined : this.#lanes.get(this.#selected);
    const distance = (other: OpView) => Math.abs(other.began - (op?.began ?? 0));
    const nearest = lane.ops.reduce<OpView | undefined>(
      (best, each) => (best === undefined || distance(each) < distance(best) ? each : best),
      undefined,
    );
    this.#select(lane, op === undefined ? undefined : nearest);
  }

  #select(lane: Lane | undefined, op: OpView | undefined, reveals = true): void {
    if (lane === undefined) return;
    this.#lane = lane.key;
    this.#selected = op?.id;
    this.#hovered = undefined;
    if (op !== undefined && reveals) this.#window.reveal(op.began, endOf(op, this.#now), this.#now);
    else if (op !== undefined) this.#window.pause(this.#now);
    const top = this.#lanes.all.indexOf(lane) * LANE;
    const room = this.#box.clientHeight - AXIS - LANE;
    if (this.#box.scrollTop > top) this.#box.scrollTop = top;
    else if (this.#box.scrollTop < top - room) this.#box.scrollTop = top - room;
    this.#showDetails();
    this.#draw();
  }

  #hover(id: string | undefined): void {
    this.#canvas.style.cursor = id === undefined ? "" : "pointer";
    if (id === this.#hovered) return;
    this.#hovered = id;
    this.#showDetails();
    this.#draw();
  }

  #showDetails(): void {
    const op = this.#shownOp;
    // What the pointer is over is not read out.
    this.#details.setAttribute("aria-live", this.#hovered === undefined ? "polite" : "off");
    const lane = this.#lanes.all.find(({ key }) => key === this.#lane);
    setText(
      this.#details,
      op === undefined ? laneText(lane) : textOf(op, this.#now, this.#snapshot?.job.startedAt ?? 0),
    );
  }

  #draw(): void {
    if (this.#isDue || !this.#isShown) return;
    this.#isDue = true;
    requestAnimationFrame(() => this.#frame());
  }

  #frame(): void {
    this.#isDue = false;
    if (!this.#isShown) return;
    const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const follows = !this.#window.isPaused && this.#snapshot !== undefined && this.#snapshot.end === undefined;
    const wait = this.#drawnAt + FRAME_MS - performance.now();
    if (follows && wait > 0) {
      this.#isDue = true;
      setTimeout(() => requestAnimationFrame(() => this.#frame()), wait);
      return;
    }
    this.#drawnAt = performance.now();
    this.#paint();
    if (follows && !isCalm) this.#draw();
  }

  #paint(): void {
    const context = this.#canvas.getContext("2d");
    if (context === null) return;
    const [width, height, scale] = [this.#box.clientWidth, this.#box.clientHeight, devicePixelRatio];
    const size = [Math.round(width * scale), Math.round(height * scale)] as const;
    if (this.#canvas.width !== size[0] || this.#canvas.height !== size[1]) {
      [this.#canvas.width, this.#canvas.height] = size;
      this.#canvas.style.width = `${width}px`;
      this.#canvas.style.height = `${height}px`;
    }
    context.setTransform(scale, 0, 0, scale, 0, 0);
    const now = this.#now;
    this.#palette ??= readPalette(this.#canvas);
    this.#scene = {
      ...{ width, height, lanes: this.#lanes.all, scrolled: this.#box.scrollTop, now },
      ...{ from: this.#window.from(now), to: this.#window.to(now), startedAt: this.#snapshot?.job.startedAt ?? 0 },
      ...{ lateRanks: this.#lateRanks, failedRanks: this.#failedRanks },
      ...{ selected: this.#selected, hovered: this.#hovered, palette: this.#palette },
      lane: document.activeElement === this.#canvas ? this.#lane : undefined,
    };
    drawTimeline(context, this.#scene);
    this.#showState();
  }

  #showState(): void {
    const { isPaused, spanMs } = this.#window;
    this.#pause.setAttribute("aria-pressed", String(isPaused));
    const unseen = this.#snapshot?.unseen ?? 0;
    const rest = unseen > 0 ? `; ${unseen.toLocaleString("en")} ops were too fast to be seen` : "";
    setText(
      this.#span,
      `${isPaused ? "paused, " : "the last "}${durationText(spanMs)}${isPaused ? " shown" : ""}${rest}`,
    );
  }
}
