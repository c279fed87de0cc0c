export { FlightRecorder, type FlightRecorderOptions } from "./flight-recorder.ts";
export type { RecordedCall, RecordedSteps, RecordedWork } from "./recorded-op.ts";
export type { RecordedGroup, RecordedTensor, TraceEntry } from "./trace-entry.ts";
