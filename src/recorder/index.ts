export { DEFAULT_CAPACITY, FlightRecorder, type FlightRecorderOptions } from "./flight-recorder.ts";
export type { RecordedGroup, RecordedTensor, TraceEntry } from "./trace-entry.ts";
