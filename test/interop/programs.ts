/** What ranks of jobs with PyTorch run with, be they Bun's or Python's. */
export const peerEnvironment: Readonly<Record<string, string | undefined>> = {
  ...process.env,
  NO_COLOR: "1",
  TORCH_CPP_LOG_LEVEL: "ERROR",
  OMP_NUM_THREADS: "1",
  C10D_STORE_SECRET: "",
};

export interface ProgramEnd {
  /** `null` if a signal ended it. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program until it exits; kills it if that takes longer than `limitMs`. */
export async function runProgram(
  command: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  limitMs: number,
): Promise<ProgramEnd> {
  const child = Bun.spawn([...command], {
    env: { ...peerEnvironment, ...env },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    timeout: limitMs,
    killSignal: "SIGKILL",
  });
  const [stdout, stderr] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  return { code: child.exitCode, stdout, stderr };
}

/** A port that was free just now. */
export function freePort(): number {
  using listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  return listener.port;
}
