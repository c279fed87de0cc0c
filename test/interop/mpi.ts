const candidates = {
  "Open MPI": { names: ["mpirun.openmpi", "mpirun"], version: /Open ?MPI|OpenRTE/ },
  MPICH: { names: ["mpiexec.mpich", "mpiexec.hydra", "mpiexec"], version: /HYDRA|MPICH/ },
} as const;

/** The launcher of an MPI implementation; undefined if it is not installed. */
export function mpirun(implementation: keyof typeof candidates): string | undefined {
  const { names, version } = candidates[implementation];
  for (const name of names) {
    const path = Bun.which(name);
    if (path === null) continue;
    const { stdout } = Bun.spawnSync([path, "--version"], { stdout: "pipe", stderr: "ignore", timeout: 5_000 });
    if (version.test(stdout.toString())) return path;
  }
  return undefined;
}
