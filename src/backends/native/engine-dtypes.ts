import type { DType } from "../../tensor/index.ts";

/**
 * dtypes that the engine knows (native/ops/dtype.h) and reduces (native/reduction). Listed explicitly, so that
 * backends do not claim a dtype that is added to the package before they support it.
 */
export const engineDTypes: readonly DType[] = [
  "uint8",
  "int8",
  "int16",
  "int32",
  "int64",
  "float16",
  "float32",
  "float64",
  "complex64",
  "complex128",
  "bool",
  "bfloat16",
  "uint16",
  "uint32",
  "uint64",
];

/** dtypes that the engine moves: {@link engineDTypes}, and those that it cannot reduce. */
export const movedDTypes: readonly DType[] = [...engineDTypes, "float8_e4m3fn", "float8_e5m2"];
