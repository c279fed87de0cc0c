/** The environment of a rank on this host whose launcher hosts the store, as `c10d run` sets it. */
export function rankEnv(rank: number, worldSize: number, storePort: number): Record<string, string> {
  return {
    RANK: String(rank),
    LOCAL_RANK: String(rank),
    WORLD_SIZE: String(worldSize),
    LOCAL_WORLD_SIZE: String(worldSize),
    MASTER_ADDR: "127.0.0.1",
    MASTER_PORT: String(storePort),
    TORCHELASTIC_USE_AGENT_STORE: "True",
  };
}
