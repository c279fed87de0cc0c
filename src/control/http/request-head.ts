/** Request line and headers of an HTTP/1.1 request, as far as the control plane needs them. */
export interface RequestHead {
  readonly method: string;
  /** Still percent-encoded. */
  readonly path: string;
  /** After the `?`; still percent-encoded. */
  readonly query: string;
  readonly authorization: string | undefined;
  readonly contentLength: number;
}

/** Why a request is refused. */
export interface HeadFault {
  readonly status: number;
  readonly fault: string;
}

const requestLine = /^([A-Z]{1,16}) (\/[\x21-\x7e\x80-\xff]*) HTTP\/1\.[01]$/;
const headerLine = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\0\r\n]*)$/;

/** Reads a head, one character per byte, without the empty line that ends it. */
export function parseHead(text: string): RequestHead | HeadFault {
  const [first = "", ...lines] = text.split("\r\n");
  const [, method = "", target = ""] = requestLine.exec(first) ?? [];
  if (method === "") return refused("the request line is not `METHOD /path HTTP/1.1`");
  const headers = new Map<string, string>();
  for (const line of lines) {
    const [, name, value = ""] = headerLine.exec(line) ?? [];
    if (name === undefined) return refused("a header is not `name: value`");
    const known = name.toLowerCase();
    if (headers.has(known) && single.has(known)) return refused(`there are several headers ${known}`);
    headers.set(known, value.trim());
  }
  if (headers.has("transfer-encoding")) return { status: 411, fault: "send the body with a Content-Length" };
  const length = headers.get("content-length") ?? "0";
  if (!/^\d{1,15}$/.test(length)) return refused("Content-Length is not a number");
  const mark = target.indexOf("?");
  return {
    method,
    path: mark < 0 ? target : target.slice(0, mark),
    query: mark < 0 ? "" : target.slice(mark + 1),
    authorization: headers.get("authorization"),
    contentLength: Number(length),
  };
}

/** Headers whose meaning would depend on which one is read. */
const single = new Set(["content-length", "authorization", "transfer-encoding"]);

function refused(fault: string): HeadFault {
  return { status: 400, fault };
}
