/** A request to a handler. c10d: `_Request`. */
export class HandlerRequest {
  readonly #params: ReadonlyMap<string, string>;
  readonly #body: Uint8Array;

  constructor(params: Iterable<readonly [string, string]>, body: Uint8Array) {
    this.#params = new Map(params);
    this.#body = body;
  }

  /** The parameters after the `?`. Of several with the same name, the last one. */
  get params(): ReadonlyMap<string, string> {
    return this.#params;
  }

  /** A parameter, the empty string if there is none. c10d: `get_param`. */
  getParam(name: string): string {
    return this.#params.get(name) ?? "";
  }

  /** What was sent with the request, 1 MiB at most. c10d: `body`. */
  body(): Uint8Array {
    return this.#body;
  }
}
