import { TCPStore } from "../../src/store/index.ts";

export interface BystanderReport {
  readonly calls: number;
  readonly slowestMs: number;
  readonly error: unknown;
}

/** A well-behaved client among misbehaving ones, which notices when it is disturbed. */
export class Bystander implements AsyncDisposable {
  readonly #store: TCPStore;
  readonly #name: string;
  readonly #done: Promise<void>;
  #stopped = false;
  #calls = 0;
  #slowestMs = 0;
  #error: unknown;

  static async start(port: number, secret: string | null): Promise<Bystander> {
    return new Bystander(await TCPStore.connect({ host: "127.0.0.1", port, secret, timeout: "20s" }));
  }

  private constructor(store: TCPStore) {
    this.#store = store;
    this.#name = `bystander ${crypto.randomUUID()}`;
    this.#done = this.#work().catch((error: unknown) => {
      this.#error = error;
    });
  }

  async stop(): Promise<BystanderReport> {
    this.#stopped = true;
    await this.#done;
    return { calls: this.#calls, slowestMs: this.#slowestMs, error: this.#error };
  }

  /** The keys that were not set by a bystander. */
  async strangeKeys(): Promise<string[]> {
    const keys = await this.#store.listKeys();
    return keys.filter((key) => !key.startsWith("bystander "));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await this.#store.close();
  }

  async #work(): Promise<void> {
    const { set, get, counter } = { set: `${this.#name}/set`, get: `${this.#name}/get`, counter: `${this.#name}/n` };
    const value = crypto.getRandomValues(new Uint8Array(3_000));
    await this.#store.set(get, value);
    for (let i = 1; !this.#stopped; i++) {
      const started = performance.now();
      const [sum, got] = await Promise.all([
        this.#store.add(counter, 1),
        this.#store.get(get),
        this.#store.set(set, String(i)),
      ]);
      this.#slowestMs = Math.max(this.#slowestMs, performance.now() - started);
      this.#calls += 3;
      if (sum !== i) throw new Error(`the sum is ${sum} instead of ${i}`);
      if (Buffer.compare(got, value) !== 0) throw new Error("the value is a different one");
      await Bun.sleep(2);
    }
  }
}
