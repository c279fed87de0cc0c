import { hostname } from "node:os";
import { DistNetworkError, DistStoreError, DistTimeoutError, InvalidArgumentError } from "../../errors/index.ts";
import { PrefixStore, type Store, TCPStore } from "../../store/index.ts";
import { seconds } from "./failure-report.ts";
import type { Nodes } from "./nodes.ts";
import { parseVerdict, type Verdict } from "./verdict.ts";

export interface NodeGroupOptions {
  readonly node: number;
  readonly count: number;
  readonly ranksPerNode: number;
  readonly maxRestarts: number;
  /** Id that the user gave the job; node 0 makes one otherwise. */
  readonly runId: string | undefined;
  /** Where node 0 hosts the store of the job. */
  readonly host: string;
  readonly port: number;
  readonly secret: string | null;
  /** How long to wait for the other nodes at the start. */
  readonly joinTimeoutMs: number;
  /** A node that says nothing for this time is lost. */
  readonly lostAfterMs: number;
  readonly signal: AbortSignal;
  /** On node 0: who hangs up on the store of the job. */
  readonly departures?: Departures;
}

/** Hands on who has left a store server, as its `onLeave` tells it. */
export class Departures {
  onLeave: (peer: string) => void = () => {};
}

/** What a node tells the others about itself. */
interface NodeInfo {
  readonly nnodes: number;
  readonly ranksPerNode: number;
  readonly maxRestarts: number;
  readonly runId: string | null;
  readonly host: string;
  readonly pid: number;
  readonly id: string;
  /** Its end of the connection to the store. */
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
/** A launcher that was cut off connects again and goes on with its heartbeat; one that was killed does not. */
const comebackMs = maxBeatMs + 500;
/** How long it takes at most until a launcher that was killed is missed on all nodes, while the network is quick. */
export const missedWithinMs = comebackMs + maxBeatMs;
/** Limit of calls without which the job ends as well. */
const lastCallMs = 2_000;

/**
 * The nodes of a job that met in a store of node 0's launcher. Each counts up a key of its own as a heartbeat; node 0
 * watches the others, and they watch whether node 0 still answers, since without its store no node can go on. A launcher
 * that is killed is missed sooner: the kernel of its host hangs up, which node 0 hears at once and the others with their
 * next heartbeat; what is left to see is whether it comes back.
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
  /** The attempt whose end is known here. */
  #ended = 0;
  #lostNode: number | undefined;

  /**
   * Meets the other nodes.
   * @throws DistTimeoutError when some do not come; InvalidArgumentError when they were started with other settings;
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
    const told = this.#persist(signal, (limits) => this.#store.get(`${attempt}/verdict`, limits)).then(parseVerdict);
    return Promise.race([told, this.#lost.promise]);
  }

  async announce(attempt: number, verdict: Verdict): Promise<Verdict> {
    this.#ended = attempt;
    // The store is out of reach: each side ends by what it knows.
    if (this.#lostNode === 0) return verdict;
    let first = verdict;
    try {
      const limits = { timeout: lastCallMs };
      first = parseVerdict(await this.#store.compareSet(`${attempt}/verdict`, "", JSON.stringify(verdict), limits));
      await this.#store.set(`${attempt}/known/${this.node}`, "1", limits);
    } catch {
      // As above; the heartbeat has not told it yet.
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

  async leave(): Promise<void> {
    if (this.node === 0 && this.#lostNode !== 0) {
      // The others read the end of the job here.
      const known = this.#keys(`${this.#ended}/known`).filter((_, node) => node !== this.#lostNode);
      await this.#store.wait(known, { timeout: this.#options.lostAfterMs }).catch(() => {});
    } else if (this.node > 0 && this.#lostNode !== 0) {
      // An addition is answered: node 0 has it before it sees the connection end.
      await this.#store.add(`left/${this.node}`, 1, { timeout: lastCallMs }).catch(() => {});
    }
    this.#leaving.abort();
    await this.#connection.close();
  }

  #keys(name: string): string[] {
    return Array.from({ length: this.count }, (_, node) => `${name}/${node}`);
  }

  /** Makes a call without limit, again where a connection broke: whether the store is lost tells the heartbeat. */
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
          this.#lose(i + 1, `its launcher has said nothing for ${seconds(limits.timeout)}`);
        }
      }
    });
  }

  /** A launcher that leaves in order says so before, and one whose connection broke comes back. */
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
      // The heartbeat tells it, too.
      return;
    }
    this.#lose(node, "its launcher has hung up");
  }

  async #watchFirst(): Promise<void> {
    // An addition is answered, so that it also tells whether the store is there.
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
        // The connection broke; the next call tells whether there is another one.
        if (error instanceof DistNetworkError && error.code === "OUTCOME_UNKNOWN") continue;
        const silent = error instanceof DistTimeoutError;
        const why = silent ? `has not answered for ${seconds(timeout)}` : "has hung up";
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

/** Tells the others about this node, reads what they tell and compares; resolves to that. */
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
  const there = parseInfo(await store.compareSet(`node/${node}`, "", JSON.stringify(own), left()));
  if (there.id !== own.id) {
    throw new DistStoreError(
      `node ${node} has come already: the launcher with pid ${there.pid} on ${there.host}. Give each node its own --node-rank.`,
      { code: "NODE_TAKEN", op: "run", rank: node },
    );
  }
  const ended = new AbortController();
  const come = new Set([node]);
  const read = async (other: number): Promise<NodeInfo> => {
    const { timeout, signal } = left();
    const info = parseInfo(
      await store.get(`node/${other}`, { timeout, signal: AbortSignal.any([signal, ended.signal]) }),
    );
    come.add(other);
    const difference = agreed.find(([name]) => info[name] !== own[name] && info[name] !== null && own[name] !== null);
    if (difference !== undefined) throw disagreement(difference, [node, own], [other, info]);
    return info;
  };
  try {
    return await Promise.all(Array.from({ length: count }, (_, other) => read(other)));
  } catch (error) {
    ended.abort();
    if (error instanceof DistTimeoutError) throw nodesMissing(options, come, error);
    // The others shall be able to read what they disagree with, too, before node 0 closes the store.
    await store.set(`told/${node}`, "1", { timeout: lastCallMs }).catch(() => {});
    const told = [...come].map((other) => `told/${other}`);
    if (node === 0) await store.wait(told, { timeout: lastCallMs }).catch(() => {});
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

function nodesMissing(options: NodeGroupOptions, come: ReadonlySet<number>, cause: unknown): DistTimeoutError {
  const missing = Array.from({ length: options.count }, (_, node) => node).filter((node) => !come.has(node));
  const who = `${missing.length === 1 ? "node" : "nodes"} ${missing.join(", ")}`;
  return new DistTimeoutError(
    `${who} of ${options.count} did not come to ${options.host}:${options.port} within ${seconds(options.joinTimeoutMs)} (--rdzv-timeout). Start c10d run there, with --node-rank.`,
    { code: "NODES_MISSING", op: "run", timeoutMs: options.joinTimeoutMs, cause },
  );
}
