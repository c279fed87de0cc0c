export { FlightRecorder, type FlightRecorderOptions, type RecorderDumpOptions } from "./flight-recorder.ts";
export type { GroupCall, GroupCallInit } from "./group-calls.ts";
export { GroupRecord, type GroupRecordInit } from "./group-record.ts";
export type { RecordedCall, RecordedSteps, RecordedWork } from "./recorded-op.ts";
export type { DumpOptions } from "./trace-dump.ts";
export type { RecordedGroup, RecordedTensor, TraceEntry } from "./trace-entry.ts";
