/** First in, first out, with cheap removal at the head. */
export class ValueQueue {
  #values: Uint8Array[] = [];
  #head = 0;

  get length(): number {
    return this.#values.length - this.#head;
  }

  get first(): Uint8Array | undefined {
    return this.#values[this.#head];
  }

  push(value: Uint8Array): void {
    this.#values.push(value);
  }

  pop(): Uint8Array | undefined {
    const value = this.#values[this.#head];
    if (value === undefined) return undefined;
    this.#head++;
    if (this.#head > 32 && this.#head * 2 > this.#values.length) {
      this.#values = this.#values.slice(this.#head);
      this.#head = 0;
    }
    return value;
  }
}
