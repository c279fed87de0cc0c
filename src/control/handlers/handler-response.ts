import { describe, InvalidArgumentError } from "../../errors/index.ts";
import type { CallAnswer } from "../server-thread/thread-message.ts";

let answerIn: (response: HandlerResponse) => CallAnswer;

/** What a handler answers: status 200 without content, unless it sets them. c10d: `_Response`. */
export class HandlerResponse {
  static {
    answerIn = (response) => response.#answer();
  }

  #status = 200;
  #content: Uint8Array = new Uint8Array(0);
  #contentType: string | undefined;

  /**
   * Sets the body and its type. c10d: `set_content`.
   * @throws InvalidArgumentError for a content that is no text or bytes, and a type that is not one line of text.
   */
  setContent(content: string | Uint8Array, contentType: string): void {
    if (typeof content !== "string" && !(content instanceof Uint8Array)) {
      throw new InvalidArgumentError(`setContent: content must be a string or a Uint8Array, got ${describe(content)}`, {
        argument: "content",
      });
    }
    if (typeof contentType !== "string" || !/^[\x20-\x7e]+$/.test(contentType)) {
      throw new InvalidArgumentError(
        `setContent: contentType must be a type such as "text/plain", got ${describe(contentType)}`,
        { argument: "contentType" },
      );
    }
    // A copy: a view would be sent with all of its buffer, which may change until then.
    this.#content = typeof content === "string" ? new TextEncoder().encode(content) : new Uint8Array(content);
    this.#contentType = contentType;
  }

  /**
   * Sets the HTTP status. c10d: `set_status`.
   * @throws InvalidArgumentError for anything but an integer from 200 to 599.
   */
  setStatus(status: number): void {
    if (!Number.isInteger(status) || status < 200 || status > 599) {
      throw new InvalidArgumentError(`setStatus: status must be an integer from 200 to 599, got ${describe(status)}`, {
        argument: "status",
      });
    }
    this.#status = status;
  }

  #answer(): CallAnswer {
    return { status: this.#status, contentType: this.#contentType, body: this.#content };
  }
}

export function answerOf(response: HandlerResponse): CallAnswer {
  return answerIn(response);
}

/** An answer that is a text. */
export function textOf(status: number, text: string): CallAnswer {
  return { status, contentType: "text/plain", body: new TextEncoder().encode(text) };
}
