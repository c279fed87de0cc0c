import { Presets, SingleBar } from "cli-progress";
import type { EpochTime } from "./epoch-time.ts";
import type { Score } from "./trainer.ts";
import { percent } from "./verify.ts";

const BAR_SIZE = 20;

/** Shows the progress of training: a line per finished epoch and, on a terminal, a progress bar for the current one. */
export class Progress {
  readonly #stream: NodeJS.WriteStream;
  readonly #epochs: number;
  readonly #steps: number;
  #bar: SingleBar | undefined;

  constructor(stream: NodeJS.WriteStream, epochs: number, stepsPerEpoch: number) {
    this.#stream = stream;
    this.#epochs = epochs;
    this.#steps = stepsPerEpoch;
  }

  begin(epoch: number): void {
    if (!this.#stream.isTTY) return;
    this.#bar = new SingleBar(
      {
        stream: this.#stream,
        format: `${this.#title(epoch)} {bar} step {value}/{total} · loss {loss}`,
        barsize: BAR_SIZE,
        clearOnComplete: true,
        // Its signal handlers would keep the process running after an interrupt.
        gracefulExit: false,
      },
      Presets.shades_classic,
    );
    this.#bar.start(this.#steps, 0, { loss: "…" });
  }

  step(step: number, loss: number): void {
    this.#bar?.update(step, { loss: loss.toFixed(3) });
  }

  end(epoch: number, trained: Score, test: Score, time: EpochTime): void {
    this[Symbol.dispose]();
    const done = Math.round(((epoch + 1) / this.#epochs) * BAR_SIZE);
    const line = [
      `${this.#title(epoch)} ${"█".repeat(done)}${"░".repeat(BAR_SIZE - done)}`,
      `train loss ${trained.loss.toFixed(3)}, ${percent(trained.accuracy)} right`,
      `test loss ${test.loss.toFixed(3)}, ${percent(test.accuracy)} right`,
      `compute ${time.computeMs.toFixed(0)} ms, communication ${time.hiddenMs.toFixed(0)} ms hidden, ${time.waitedMs.toFixed(0)} ms waited for`,
    ].join(" · ");
    this.#stream.write(`${line}\n`);
  }

  [Symbol.dispose](): void {
    this.#bar?.stop();
    this.#bar = undefined;
  }

  #title(epoch: number): string {
    return `epoch ${String(epoch + 1).padStart(String(this.#epochs).length)}/${this.#epochs}`;
  }
}
