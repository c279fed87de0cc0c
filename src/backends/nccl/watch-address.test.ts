import { expect, test } from "bun:test";
import { networkInterfaces } from "node:os";
import { HashStore } from "../../store/index.ts";
import { watchAddress } from "./watch-address.ts";

const context = { store: new HashStore() };
const [loopback = ""] = Object.entries(networkInterfaces()).flatMap(([name, addresses = []]) =>
  addresses.some(({ internal }) => internal) ? [name] : [],
);
const of = (NCCL_SOCKET_IFNAME: string): string => watchAddress(context, { NCCL_SOCKET_IFNAME });
const otherwise = watchAddress(context, {});

test("is that of the interface that NCCL is told to use, by the beginning of its name or by all of it", () => {
  expect(of(loopback)).toMatch(/^127\.|^::1$/);
  expect(of(`=${loopback}`)).toBe(of(loopback));
  expect(of(loopback.slice(0, 1))).toMatch(/./);
  expect(of(`nothing,${loopback}`)).toBe(of(loopback));
});

test("is another one if the variable names what is not to be used, or nothing that there is", () => {
  expect(of(`^${loopback}`)).toBe(otherwise);
  expect(of("=no-such-interface")).toBe(otherwise);
  expect(of("no-such-interface")).toBe(otherwise);
});
