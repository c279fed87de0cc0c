import { DistBackendError } from "../../errors/index.ts";

/** What NCCL says of two ranks on one device: before 2.30.3, and since. */
const refusals = /Duplicate GPU detected|Multiple Ranks are using the same GPU/;

const REMEDY =
  'several ranks use one device, and NCCL wants one for each: pass deviceId: "cuda:" + LOCAL_RANK (a variable) to ' +
  "initProcessGroup(), and make tensors there, by cuda.setDevice(group.boundDevice) or { device: group.boundDevice }";

/** The error of a communicator that was not made. NCCL's advice for ranks on one device is rarely what is wanted. */
export function withDeviceRemedy(error: unknown): unknown {
  if (!(error instanceof DistBackendError) || !refusals.test(error.message)) return error;
  return new DistBackendError(`nccl: ${REMEDY}.\n${error.message}`, {
    ...error.details,
    code: error.code,
    cause: error,
  });
}
