import { type FFIFunction, FFIType, type Pointer } from "bun:ffi";

type Address = ArrayBufferView | ArrayBuffer | Pointer | number | null;
type Handle = Pointer;

/** The symbols of native/c10d.h. */
export interface ShimSymbols {
  c10d_abi_version(): number;
  c10d_probe(version: Address, capacity: number): number;
  c10d_last_failure(failure: Address): number;
  c10d_clock_ns(): number;
  c10d_create(config: Address): Handle | null;
  c10d_split(parent: Handle, config: Address): Handle | null;
  c10d_group_capabilities(group: Handle, capabilities: Address, size: number): void;
  c10d_wake_fd(group: Handle): number;
  c10d_drain(group: Handle, events: Address, size: number, max: number): number;
  c10d_exchange_read(
    group: Handle,
    id: number | bigint,
    key: Address,
    keyCapacity: number,
    value: Address,
    valueCapacity: number,
  ): number;
  c10d_exchange_reply(group: Handle, id: number | bigint, status: number, data: Address, bytes: number): number;
  c10d_submit(group: Handle, ops: Address, count: number): number;
  c10d_submit_one(group: Handle, op: Address, input: Address, output: Address): number;
  c10d_skip_turn(group: Handle): void;
  c10d_kick(group: Handle): void;
  c10d_wait(group: Handle, id: number, timeoutMs: number, result: Address, size: number): number;
  c10d_synchronize(group: Handle, id: number, stream: number, timeoutMs: number): number;
  c10d_op_started(group: Handle, id: number): number;
  c10d_take_failure(group: Handle, id: number, failure: Address): number;
  c10d_window_address(group: Handle, address: number, rank: number): number;
  c10d_group_state(group: Handle): number;
  c10d_abort(group: Handle, status: number, reason: Address): void;
  c10d_group_stats(group: Handle, stats: Address, size: number): void;
  c10d_close(group: Handle, timeoutMs: number): number;
}

/** Their types for `dlopen`. */
export const declarations: Readonly<Record<keyof ShimSymbols, FFIFunction>> = {
  c10d_abi_version: { args: [], returns: "u32" },
  c10d_probe: { args: ["ptr", "u32"], returns: "i32" },
  c10d_last_failure: { args: ["ptr"], returns: "i32" },
  c10d_clock_ns: { args: [], returns: FFIType.u64_fast },
  c10d_create: { args: ["ptr"], returns: "ptr" },
  c10d_split: { args: ["ptr", "ptr"], returns: "ptr" },
  c10d_group_capabilities: { args: ["ptr", "ptr", "u32"], returns: "void" },
  c10d_wake_fd: { args: ["ptr"], returns: "i32" },
  c10d_drain: { args: ["ptr", "ptr", "u32", "u32"], returns: "i32" },
  c10d_exchange_read: { args: ["ptr", "u64", "ptr", "u32", "ptr", "u32"], returns: "i32" },
  c10d_exchange_reply: { args: ["ptr", "u64", "i32", "ptr", "u32"], returns: "i32" },
  c10d_submit: { args: ["ptr", "ptr", "u32"], returns: FFIType.i64_fast },
  c10d_submit_one: { args: ["ptr", "ptr", "ptr", "ptr"], returns: FFIType.i64_fast },
  c10d_skip_turn: { args: ["ptr"], returns: "void" },
  c10d_kick: { args: ["ptr"], returns: "void" },
  c10d_wait: { args: ["ptr", "u64", "f64", "ptr", "u32"], returns: "i32" },
  c10d_synchronize: { args: ["ptr", "u64", "u64", "f64"], returns: "i32" },
  c10d_op_started: { args: ["ptr", "u64"], returns: "i32" },
  c10d_take_failure: { args: ["ptr", "u64", "ptr"], returns: "i32" },
  c10d_window_address: { args: ["ptr", "u64", "i32"], returns: FFIType.u64_fast },
  c10d_group_state: { args: ["ptr"], returns: "i32" },
  c10d_abort: { args: ["ptr", "i32", "ptr"], returns: "void" },
  c10d_group_stats: { args: ["ptr", "ptr", "u32"], returns: "void" },
  c10d_close: { args: ["ptr", "f64"], returns: "i32" },
};
