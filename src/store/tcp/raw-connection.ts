/** Bytes of hexadecimal text; blanks are for the reader. */
export function fromHex(hex: string): Uint8Array {
  return Uint8Array.fromHex(hex.replace(/\s+/g, ""));
}

/** A connection that sends and receives plain bytes, for tests of what is on the wire. */
export class RawConnection {
  #socket: Bun.Socket<undefined> | undefined;
  #received: Uint8Array = new Uint8Array(0);
  #closed = false;
  #changed = Promise.withResolvers<void>();

  static async open(port: number, hostname = "127.0.0.1"): Promise<RawConnection> {
    const raw = new RawConnection();
    raw.#socket = await Bun.connect({
      hostname,
      port,
      socket: {
        data: (_, chunk) => raw.#take(chunk),
        close: () => raw.#end(),
        error: () => raw.#end(),
      },
    });
    return raw;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Sends bytes, given as such or as hexadecimal text, and returns how many were taken. */
  send(bytes: Uint8Array | string): number {
    return this.#socket?.write(typeof bytes === "string" ? fromHex(bytes) : bytes) ?? 0;
  }

  /** The next `length` bytes as hexadecimal text, or fewer after `timeoutMs` or at the end. */
  async receive(length: number, timeoutMs = 2_000): Promise<string> {
    const deadline = performance.now() + timeoutMs;
    while (this.#received.length < length && !this.#closed && performance.now() < deadline) {
      await Promise.race([this.#changed.promise, Bun.sleep(deadline - performance.now())]);
    }
    const taken = this.#received.subarray(0, length);
    this.#received = this.#received.subarray(taken.length);
    return Buffer.from(taken).toString("hex");
  }

  /** Whether the other side hangs up within `timeoutMs`. */
  async hungUp(timeoutMs = 2_000): Promise<boolean> {
    const deadline = performance.now() + timeoutMs;
    while (!this.#closed && performance.now() < deadline) {
      await Promise.race([this.#changed.promise, Bun.sleep(deadline - performance.now())]);
    }
    return this.#closed;
  }

  /** Stops reading, as a slow or stopped process does. */
  stopReading(): void {
    (this.#socket as (Bun.Socket<undefined> & { pause(): void }) | undefined)?.pause();
  }

  startReading(): void {
    (this.#socket as (Bun.Socket<undefined> & { resume(): void }) | undefined)?.resume();
  }

  close(): void {
    this.#socket?.terminate();
  }

  #take(chunk: Uint8Array): void {
    this.#received = Buffer.concat([this.#received, chunk]);
    this.#change();
  }

  #end(): void {
    this.#closed = true;
    this.#change();
  }

  #change(): void {
    const changed = this.#changed;
    this.#changed = Promise.withResolvers();
    changed.resolve();
  }
}
