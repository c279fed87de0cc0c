import type { OpCall } from "../collectives/index.ts";
import { describe, describeNumber, InvalidArgumentError } from "../errors/index.ts";
import { dtypeOfArray, dtypes, isDType, isWhole, type TensorView } from "../tensor/index.ts";

/**
 * Whether the views of a call that middleware has made or changed are such as native code can be given: they lie within their
 * memory, which is still there. What the process group has made is not looked at again.
 *
 * @throws InvalidArgumentError (`INVALID_CALL`) naming the middleware and the view.
 */
export function requireViews(call: OpCall, middleware: string): void {
  for (const side of ["inputs", "outputs"] as const) {
    const views: unknown = call?.[side];
    if (!Array.isArray(views)) throw refusal(call, middleware, side, `is no list of views, got ${describe(views)}`);
    for (let i = 0; i < views.length; i++) {
      const fault = faultOf(views[i]);
      if (fault !== undefined) throw refusal(call, middleware, `${side}[${i}]`, fault);
    }
  }
}

function refusal(call: OpCall | undefined, middleware: string, where: string, fault: string): InvalidArgumentError {
  const op = call?.op ?? "op";
  return new InvalidArgumentError(`${op}: middleware "${middleware}" has changed the call, and its ${where} ${fault}`, {
    code: "INVALID_CALL",
    op,
    argument: where,
  });
}

function faultOf(view: TensorView | undefined): string | undefined {
  if (typeof view !== "object" || view === null) return `is no view, got ${describe(view)}`;
  const { data, ptr, dtype, length, byteLength } = view;
  if (!isDType(dtype)) return `has the unknown dtype ${String(dtype)}`;
  if (!Number.isSafeInteger(byteLength) || byteLength < 0) return `has byteLength ${describeNumber(byteLength)}`;
  if (length * dtypes[dtype].size !== byteLength) {
    return `has ${describeNumber(length)} elements of ${dtype}, which are not its ${byteLength} bytes`;
  }
  if (data === undefined) {
    if (Number.isSafeInteger(ptr) && ptr >= 0 && (ptr > 0 || byteLength === 0)) return undefined;
    return `has no memory: its data is undefined and its ptr is ${describeNumber(ptr)}`;
  }
  if (dtypeOfArray(data) === undefined) return `has ${describe(data)} as its data, which is no TypedArray`;
  if (isWhole(data, byteLength)) return undefined;
  return `claims ${byteLength} bytes, more than its memory has (${data.byteLength})`;
}
