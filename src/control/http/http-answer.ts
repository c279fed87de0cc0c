/** What is sent in response to a request. */
export interface HttpAnswer {
  readonly status: number;
  /** None for an empty body without a type. */
  readonly contentType?: string | undefined;
  readonly body: Uint8Array;
}

const reasons: Readonly<Record<number, string>> = {
  200: "OK",
  400: "Bad Request",
  401: "Unauthorized",
  404: "Not Found",
  408: "Request Timeout",
  411: "Length Required",
  413: "Content Too Large",
  431: "Request Header Fields Too Large",
  500: "Internal Server Error",
  501: "Not Implemented",
  503: "Service Unavailable",
};
const encoder = new TextEncoder();

export function textAnswer(status: number, text: string, contentType = "text/plain"): HttpAnswer {
  return { status, contentType, body: encoder.encode(text) };
}

/** A status alone, as for a path that does not exist. */
export function emptyAnswer(status: number): HttpAnswer {
  return { status, body: new Uint8Array(0) };
}

/** The bytes of an answer, which ends its connection; without its body for HEAD. */
export function answerBytes({ status, contentType, body }: HttpAnswer, isHead: boolean): Uint8Array {
  const head = [
    `HTTP/1.1 ${status} ${reasons[status] ?? "Status"}`,
    "Connection: close",
    `Content-Length: ${body.length}`,
    ...(contentType === undefined ? [] : [`Content-Type: ${contentType}`]),
    ...(status === 401 ? ["WWW-Authenticate: Bearer"] : []),
    // What a rank shows is for the one who asked: no cache keeps it, no page of another site reads or embeds it.
    "Cache-Control: no-store",
    "X-Content-Type-Options: nosniff",
    "Referrer-Policy: no-referrer",
  ];
  const bytes = encoder.encode(`${head.join("\r\n")}\r\n\r\n`);
  return isHead ? bytes : Buffer.concat([bytes, body]);
}
