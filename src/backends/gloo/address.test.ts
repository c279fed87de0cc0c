import { describe, expect, test } from "bun:test";
import { networkInterfaces } from "node:os";
import { InvalidArgumentError } from "../../errors/index.ts";
import { HashStore } from "../../store/index.ts";
import { listenAddresses } from "./address.ts";

const context = { store: new HashStore(), size: 2 };
const [loopbackName = "lo"] = Object.entries(networkInterfaces()).find(([, all]) => all?.[0]?.internal) ?? [];

describe("where gloo listens", () => {
  test("the options win over GLOO_SOCKET_IFNAME, that wins over C10D_GLOO_HOST", () => {
    const environment = { GLOO_SOCKET_IFNAME: loopbackName, C10D_GLOO_HOST: "192.0.2.1" };
    expect(listenAddresses(context, { host: "192.0.2.2" }, environment)).toEqual(["192.0.2.2"]);
    expect(listenAddresses(context, {}, environment)).toEqual(["127.0.0.1"]);
    expect(listenAddresses(context, {}, { C10D_GLOO_HOST: "192.0.2.1" })).toEqual(["192.0.2.1"]);
  });

  test("loopback where all ranks are on this host", () => {
    expect(listenAddresses(context, {}, {})).toEqual(["127.0.0.1"]);
    expect(listenAddresses(context, {}, { LOCAL_WORLD_SIZE: "2" })).toEqual(["127.0.0.1"]);
  });

  test("an interface that does not exist, and a name in place of an address, are refused", () => {
    expect(() => listenAddresses(context, { interface: "nothing0" }, {})).toThrow(InvalidArgumentError);
    expect(() => listenAddresses(context, {}, { C10D_GLOO_HOST: "host.example" })).toThrow(
      /IP address of this machine/,
    );
  });
});
