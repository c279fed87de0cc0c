const JOB_ID = /^[\w-]{8,80}$/;

/** An id for a job. */
export function newJobId(): string {
  return crypto.randomUUID().replaceAll("-", "").slice(0, 16);
}

/** Whether this can be the id of a job, which names its folder. */
export function isJobId(text: string): boolean {
  return JOB_ID.test(text);
}
