import { describe, expect, test } from "bun:test";
import { networkInterfaces } from "node:os";
import { HashStore, type Store } from "../../store/index.ts";
import { watchAddress } from "./address.ts";

const storeAt = (localAddress: string | undefined): Store =>
  Object.defineProperty(new HashStore(), "localAddress", { value: localAddress });

const [loopbackName = "lo"] = Object.entries(networkInterfaces()).find(([, all]) => all?.[0]?.internal) ?? [];
const outward = Object.values(networkInterfaces())
  .flat()
  .find((each) => each?.family === "IPv4" && !each.internal)?.address;

describe("where ranks of other hosts connect to one that uses ucc", () => {
  test("is the first interface of UCX_NET_DEVICES that has an address; RDMA ports are skipped", () => {
    const environment = { UCX_NET_DEVICES: `mlx5_0:1, ${loopbackName},nothing` };
    expect(watchAddress({ store: storeAt("192.0.2.7") }, environment)).toMatch(/^127\.|^::1$/);
  });

  test.each([undefined, "all", "mlx5_0:1"])(
    "with UCX_NET_DEVICES=%s, the address from which the store is reached",
    (devices) => {
      expect(watchAddress({ store: storeAt("192.0.2.7") }, { UCX_NET_DEVICES: devices })).toBe("192.0.2.7");
    },
  );

  test.each([undefined, "127.0.0.1", "::1"])("with a store on this host (%s), one that others may reach", (address) => {
    expect(watchAddress({ store: storeAt(address) }, {})).toBe(outward ?? "127.0.0.1");
  });
});
