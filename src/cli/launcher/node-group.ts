import { hostname } from "node:os";
import { DistNetworkError, DistStoreError, DistTimeoutError, InvalidArgumentError } from "../../errors/index.ts";
import { parseStatuses, type RankStatus, seconds, statusesText } from "../../status/index.ts";
import { PrefixStore, type Store, TCPStore } from "../../store/index.ts";
import type { Nodes } from "./nodes.ts";
import { parseVerdict, type Verdict } from "./verdict.ts";

export interface NodeGroupOptions {
  readonly node: number;
  readonly count: number;
  readonly ranksPerNode: number;
  readonly maxRestarts: number;
  /** Job id given by the user; otherwise node 0 creates one. */
  readonly runId: string | undefined;
  /** Where node 0 hosts the store of the job. */
  readonly host: string;
  readonly port: number;
  readonly secret: string | null;
  /** How long to wait for the other nodes at the start. */
  readonly joinTimeoutMs: number;
  /** A node that sends nothing for this time is lost. */
  readonly lostAfterMs: number;
  readonly signal: AbortSignal;
  /** On node 0: which clients disconnect from the store of the job. */
  readonly departures?: Departures;
}

/** Forwards the `onLeave` calls of a store server. */
export class Departures {
  onLeave: (peer: string) => void = () => {};
}

/** What a node publishes about itself. */
interface NodeInfo {
  readonly nnodes: number;
  readonly ranksPerNode: number;
  readonly maxRestarts: number;
  readonly runId: string | null;
  readonly host: string;
  readonly pid: number;
  readonly id: string;
  /** Local address of its connection to the store. */
  readonly endpoint: string | null;
}

/** The settings that must be the same on all nodes. */
const agreed = [
  ["nnodes", "--nnodes"],
  ["ranksPerNode", "-n"],
  ["maxRestarts", "--max-restarts"],
  ["runId", "--rdzv-id"],
] as const;

const maxBeatMs = 1_000;
/** A launcher whose connection broke reconnects and continues its heartbeat; one that was killed does not. */
const comebackMs = maxBeatMs + 500;
/** How long it takes at most, on a fast network, until all nodes notice that a launcher was killed. */
export const missedWithinMs = comebackMs + maxBeatMs;
/** How long other nodes have to answer what their ranks are doing. */
const answerMs = 1_000;
/** Time limit of calls that the end of the job does not depend on. */
const lastCallMs = 2_000;

/**
 * The nodes of a job that joined in the store of node 0's launcher. Each increments its own key as a heartbeat. Node 0
 * watches the others. They watch whether node 0 still answers, since no node can continue without its store. A killed
 * launcher is noticed sooner: the kernel of its host closes the connection, which node 0 sees at once and the others at
 * their next heartbeat. It remains to check whether the launcher reconnects.
 */
export class NodeGroup implements Nodes {
  readonly node: number;
  readonly count: number;
  readonly runId: string;
  readonly #options: NodeGroupOptions;
  readonly #connection: TCPStore;
  readonly #store: Store;
  readonly #lost = Promise.withResolvers<Verdict>();
  readonly #leaving = new AbortController();
  /** The latest attempt whose end this node knows. */
  #ended = 0;
  #lostNode: number | undefined;
  /** The last question of this attempt about what the ranks are doing. */
  #asked = 0;

  /**
   * Joins the other nodes.
   * @throws DistTimeoutError when some do not join; InvalidArgumentError when they were started with other settings;
   * DistStoreError `NODE_TAKEN` when two launchers have the same number; the errors of {@link TCPStore.connect}.
   */
  static async join(options: NodeGroupOptions): Promise<NodeGroup> {
    const { host, port, secret, signal } = options;
    const deadline = performance.now() + options.joinTimeoutMs;
    const left = () => ({ timeout: Math.max(deadline - performance.now(), 1), signal });
    const connection = await TCPStore.connect({ host, port, secret, ...left() });
    const store = new PrefixStore("c10d-run", connection);
    try {
      const endpoint = connection.localEndpoint ?? null;
      return new NodeGroup(options, connection, store, await meetNodes(store, { ...options, endpoint }, left));
    } catch (error) {
      await connection.close();
      throw error;
    }
  }

  private constructor(options: NodeGroupOptions, connection: TCPStore, store: Store, infos: readonly NodeInfo[]) {
    this.node = options.node;
    this.count = options.count;
    this.runId = infos[0]?.runId ?? "";
    this.#options = options;
    this.#connection = connection;
    this.#store = store;
    void (options.node === 0 ? this.#watchOthers() : this.#watchFirst());
    if (options.departures === undefined) return;
    const endpoints = infos.map(({ endpoint }) => endpoint);
    options.departures.onLeave = (peer) => {
      const node = endpoints.indexOf(peer);
      if (node > 0) void this.#checkDeparture(node);
    };
  }

  async port(attempt: number, open: () => Promise<number>, signal: AbortSignal): Promise<number> {
    if (attempt === 0) return this.#options.port;
    const key = `${attempt}/port`;
    if (this.node === 0) {
      const stopped = this.#keys(`${attempt - 1}/stopped`);
      await this.#persist(signal, (limits) => this.#store.wait(stopped, limits));
      const port = await open();
      await this.#persist(signal, (limits) => this.#store.set(key, String(port), limits));
      return port;
    }
    return Number(new TextDecoder().decode(await this.#persist(signal, (limits) => this.#store.get(key, limits))));
  }

  async verdict(attempt: number, signal: AbortSignal): Promise<Verdict> {
    const found = this.#persist(signal, (limits) => this.#store.get(`${attempt}/verdict`, limits)).then(parseVerdict);
    return Promise.race([found, this.#lost.promise]);
  }

  async announce(attempt: number, verdict: Verdict): Promise<Verdict> {
    this.#ended = attempt;
    // The store cannot be reached: each side uses its own verdict.
    if (this.#lostNode === 0) return verdict;
    let first = verdict;
    try {
      const limits = { timeout: lastCallMs };
      first = parseVerdict(await this.#store.compareSet(`${attempt}/verdict`, "", JSON.stringify(verdict), limits));
      await this.#store.set(`${attempt}/known/${this.node}`, "1", limits);
    } catch {
      // As above, but the heartbeat has not noticed yet.
    }
    return first;
  }

  async finished(attempt: number, signal: AbortSignal): Promise<void> {
    const done = this.#keys(`${attempt}/done`);
    await this.#persist(signal, (limits) => this.#store.set(`${attempt}/done/${this.node}`, "1", limits));
    await this.#persist(signal, (limits) => this.#store.wait(done, limits));
    await this.#store.set(`${attempt}/known/${this.node}`, "1", { timeout: lastCallMs }).catch(() => {});
    this.#ended = attempt;
  }

  async stopped(attempt: number): Promise<void> {
    if (this.#lostNode === 0) return;
    await this.#store.set(`${attempt}/stopped/${this.node}`, "1", { timeout: lastCallMs }).catch(() => {});
  }

  async answerStatus(attempt: number, statuses: () => readonly RankStatus[], signal: AbortSignal): Promise<void> {
    this.#asked = 0;
    const key = (question: number) => this.#answerKey(attempt, question);
    try {
      for (;;) {
        const question = this.#asked + 1;
        await this.#persist(signal, (limits) => this.#store.wait([`${attempt}/status/ask/${question}`], limits));
        this.#asked = question;
        const limits = { timeout: lastCallMs, signal };
        await this.#store.set(key(question), statusesText(statuses()), limits).catch(() => {});
        await this.#store.deleteKey(key(question - 1), limits).catch(() => {});
      }
    } catch {
      // The attempt has ended.
    }
  }

  async leaveStatus(attempt: number, statuses: readonly RankStatus[]): Promise<void> {
    const limits = { timeout: lastCallMs, signal: this.#leaving.signal };
    await this.#store.set(this.#answerKey(attempt, this.#asked + 1), statusesText(statuses), limits).catch(() => {});
  }

  #answerKey(attempt: number, question: number): string {
    return `${attempt}/status/${this.node}/${question}`;
  }

  async askStatus(attempt: number): Promise<readonly RankStatus[]> {
    const question = this.#asked + 1;
    const limits = { timeout: answerMs, signal: this.#leaving.signal };
    try {
      await this.#store.set(`${attempt}/status/ask/${question}`, "1", limits);
      const others = this.#keys(`${attempt}/status`).filter((_, node) => node !== this.node);
      const answers = await Promise.allSettled(others.map((key) => this.#store.get(`${key}/${question}`, limits)));
      const now = Date.now();
      return answers.flatMap((answer) =>
        answer.status === "fulfilled" ? parseStatuses(new TextDecoder().decode(answer.value), now) : [],
      );
    } catch {
      return [];
    }
  }

  async leave(): Promise<void> {
    if (this.node === 0 && this.#lostNode !== 0) {
      // The others read the verdict in this store.
      const known = this.#keys(`${this.#ended}/known`).filter((_, node) => node !== this.#lostNode);
      await this.#store.wait(known, { timeout: this.#options.lostAfterMs }).catch(() => {});
    } else if (this.node > 0 && this.#lostNode !== 0) {
      // add() waits for the reply, so node 0 has processed it before it sees the connection close.
      await this.#store.add(`left/${this.node}`, 1, { timeout: lastCallMs }).catch(() => {});
    }
    this.#leaving.abort();
    await this.#connection.close();
  }

  #keys(name: string): string[] {
    return Array.from({ length: this.count }, (_, node) => `${name}/${node}`);
  }

  /** Makes a call without a time limit; repeats it when the connection breaks. The heartbeat detects a lost store. */
  async #persist<T>(
    signal: AbortSignal,
    call: (limits: { timeout: number; signal: AbortSignal }) => Promise<T>,
  ): Promise<T> {
    const any = AbortSignal.any([signal, this.#leaving.signal]);
    for (;;) {
      try {
        return await call({ timeout: Number.POSITIVE_INFINITY, signal: any });
      } catch (error) {
        if (any.aborted) throw error;
        await Bun.sleep(this.#beatMs);
      }
    }
  }

  get #beatMs(): number {
    return Math.min(maxBeatMs, this.#options.lostAfterMs / 5);
  }

  async #watchOthers(): Promise<void> {
    const others = this.#keys("beat").slice(1);
    const seen = others.map(() => ({ beat: "", at: performance.now() }));
    await this.#everyBeat(async (limits) => {
      const beats = await this.#store.multiGet(others, limits);
      for (const [i, bytes] of beats.entries()) {
        const beat = new TextDecoder().decode(bytes);
        const last = seen[i];
        if (last === undefined || last.beat !== beat) {
          seen[i] = { beat, at: performance.now() };
        } else if (performance.now() - last.at > limits.timeout) {
          this.#lose(i + 1, `its launcher has sent no heartbeat for ${seconds(limits.timeout)}`);
        }
      }
    });
  }

  /** A launcher that leaves in order announces it first, and one whose connection broke reconnects. */
  async #checkDeparture(node: number): Promise<void> {
    const { signal } = this.#leaving;
    const limits = { timeout: this.#options.lostAfterMs, signal };
    const beat = async () => new TextDecoder().decode(await this.#store.get(`beat/${node}`, limits));
    try {
      if (await this.#store.check([`left/${node}`], limits)) return;
      const last = await beat();
      for (const end = performance.now() + comebackMs; performance.now() < end; await Bun.sleep(this.#beatMs / 4)) {
        if (signal.aborted || (await beat()) !== last) return;
      }
    } catch {
      // The heartbeat detects this, too.
      return;
    }
    this.#lose(node, "its launcher has disconnected");
  }

  async #watchFirst(): Promise<void> {
    // add() waits for the reply, so it also shows whether the store still answers.
    await this.#everyBeat((limits) => this.#store.add(`beat/${this.node}`, 1, limits));
  }

  async #everyBeat(beat: (limits: { timeout: number; signal: AbortSignal }) => Promise<unknown>): Promise<void> {
    const { signal } = this.#leaving;
    const timeout = this.#options.lostAfterMs;
    while (!signal.aborted) {
      try {
        await beat({ timeout, signal });
      } catch (error) {
        if (signal.aborted) return;
        // The connection broke; the next call shows whether a new one can be made.
        if (error instanceof DistNetworkError && error.code === "OUTCOME_UNKNOWN") continue;
        const silent = error instanceof DistTimeoutError;
        const why = silent ? `has not answered for ${seconds(timeout)}` : "has disconnected";
        const store = `${this.#options.host}:${this.#options.port}`;
        const own = `its store at ${store} cannot be reached from this host: is the network interface down?`;
        this.#lose(0, this.node === 0 ? own : `its launcher, which hosts the store at ${store}, ${why}`);
        return;
      }
      await Bun.sleep(this.#beatMs);
    }
  }

  #lose(node: number, reason: string): void {
    this.#lostNode ??= node;
    this.#lost.resolve({ kind: "node", node, reason });
  }
}

/** Publishes the data of this node, reads and compares the data of all nodes, and resolves to it. */
async function meetNodes(
  store: Store,
  options: NodeGroupOptions & Pick<NodeInfo, "endpoint">,
  left: () => { timeout: number; signal: AbortSignal },
): Promise<readonly NodeInfo[]> {
  const { node, count, endpoint } = options;
  const own: NodeInfo = {
    nnodes: count,
    ranksPerNode: options.ranksPerNode,
    maxRestarts: options.maxRestarts,
    runId: options.runId ?? (node === 0 ? crypto.randomUUID() : null),
    host: hostname(),
    pid: process.pid,
    id: crypto.randomUUID(),
    endpoint,
  };
  await store.add(`beat/${node}`, 1, left());
  const found = parseInfo(await store.compareSet(`node/${node}`, "", JSON.stringify(own), left()));
  if (found.id !== own.id) {
    throw new DistStoreError(
      `node ${node} has already joined: the launcher with pid ${found.pid} on ${found.host}. Give each node its own --node-rank.`,
      { code: "NODE_TAKEN", op: "run", rank: node },
    );
  }
  const ended = new AbortController();
  const joined = new Set([node]);
  const read = async (other: number): Promise<NodeInfo> => {
    const { timeout, signal } = left();
    const info = parseInfo(
      await store.get(`node/${other}`, { timeout, signal: AbortSignal.any([signal, ended.signal]) }),
    );
    joined.add(other);
    const difference = agreed.find(([name]) => info[name] !== own[name] && info[name] !== null && own[name] !== null);
    if (difference !== undefined) throw disagreement(difference, [node, own], [other, info]);
    return info;
  };
  try {
    return await Promise.all(Array.from({ length: count }, (_, other) => read(other)));
  } catch (error) {
    ended.abort();
    if (error instanceof DistTimeoutError) throw nodesMissing(options, joined, error);
    // Before node 0 closes the store, the others must be able to read what they disagree with.
    await store.set(`told/${node}`, "1", { timeout: lastCallMs }).catch(() => {});
    const keys = [...joined].map((other) => `told/${other}`);
    if (node === 0) await store.wait(keys, { timeout: lastCallMs }).catch(() => {});
    throw error;
  }
}

function parseInfo(bytes: Uint8Array): NodeInfo {
  return JSON.parse(new TextDecoder().decode(bytes)) as NodeInfo;
}

function disagreement(
  [name, flag]: (typeof agreed)[number],
  [a, infoA]: readonly [number, NodeInfo],
  [b, infoB]: readonly [number, NodeInfo],
): InvalidArgumentError {
  return new InvalidArgumentError(
    `the nodes of this job do not agree on ${flag}: node ${a} (${infoA.host}) has ${infoA[name]}, node ${b} (${infoB.host}) has ${infoB[name]}`,
    { code: "NODES_DISAGREE", argument: flag },
  );
}

function nodesMissing(options: NodeGroupOptions, joined: ReadonlySet<number>, cause: unknown): DistTimeoutError {
  const missing = Array.from({ length: options.count }, (_, node) => node).filter((node) => !joined.has(node));
  const names = `${missing.length === 1 ? "node" : "nodes"} ${missing.join(", ")}`;
  return new DistTimeoutError(
    `${names} of ${options.count} did not join at ${options.host}:${options.port} within ${seconds(options.joinTimeoutMs)} (--rdzv-timeout). Start c10d run there, with --node-rank.`,
    { code: "NODES_MISSING", op: "run", timeoutMs: options.joinTimeoutMs, cause },
  );
}
