import type { ErrorCode, FieldError, Problem } from "./contract.js";

/**
 * What went wrong: a code of the contract, or one of the client's own. `unexpected_answer` is an answer that is not
 * Keymeter's, as a proxy gives. A newer server may have codes that this version does not list.
 */
export type KeymeterErrorCode = ErrorCode | "unexpected_answer" | "no_answer" | "timeout" | (string & {});

/** What a KeymeterError is made of. */
export interface KeymeterErrorFields {
  status?: number | undefined;
  code: KeymeterErrorCode;
  detail: string;
  requestId?: string | undefined;
  errors?: readonly FieldError[] | undefined;
  retryAfter?: number | undefined;
  cause?: unknown;
}

/** A call that did not succeed. */
export class KeymeterError extends Error {
  override readonly name: string = "KeymeterError";
  /** The HTTP status. Undefined if there was no answer. */
  readonly status: number | undefined;
  /** What went wrong, for programs. */
  readonly code: KeymeterErrorCode;
  /** What went wrong, for people. */
  readonly detail: string;
  /** The id of the request in the server's log. */
  readonly requestId: string | undefined;
  /** What is wrong with which field. Empty unless fields are at fault. */
  readonly errors: readonly FieldError[];
  /** Seconds to wait before the next try, if the answer says so. */
  readonly retryAfter: number | undefined;

  constructor(fields: KeymeterErrorFields) {
    super(describe(fields), "cause" in fields ? { cause: fields.cause } : undefined);
    this.status = fields.status;
    this.code = fields.code;
    this.detail = fields.detail;
    this.requestId = fields.requestId;
    this.errors = fields.errors ?? [];
    this.retryAfter = fields.retryAfter;
  }
}

/** No answer came, or none in time. Whether the request had its effect is not known. */
export class KeymeterConnectionError extends KeymeterError {
  override readonly name: string = "KeymeterConnectionError";

  constructor(code: "no_answer" | "timeout", detail: string, cause: unknown) {
    super({ code, detail, cause });
  }
}

/** The error that an answer stands for, with its body as it was parsed. */
export function errorOf(response: Response, body: unknown): KeymeterError {
  const fields = {
    status: response.status,
    requestId: response.headers.get("X-Request-Id") ?? undefined,
    retryAfter: secondsOf(response.headers.get("Retry-After")),
  };
  if (isProblem(body)) {
    return new KeymeterError({ ...fields, ...pick(body) });
  }
  // The body may be anything, even an echo of the request. It is not repeated.
  const type = response.headers.get("Content-Type") ?? "no type";
  return new KeymeterError({ ...fields, code: "unexpected_answer", detail: `The answer is not Keymeter's (${type}).` });
}

function pick({ code, detail, requestId, errors }: Problem) {
  return { code, detail, requestId, errors };
}

function isProblem(body: unknown): body is Problem {
  const problem = body as Partial<Problem> | null | undefined;
  return typeof problem === "object" && typeof problem?.code === "string" && typeof problem.detail === "string";
}

/** Retry-After is a number of seconds or a date. */
function secondsOf(header: string | null): number | undefined {
  if (header === null) return undefined;
  const seconds = /^\d+$/.test(header) ? Number(header) : (Date.parse(header) - Date.now()) / 1000;
  return Number.isNaN(seconds) ? undefined : Math.max(0, Math.ceil(seconds));
}

function describe({ status, code, detail, requestId, errors = [] }: KeymeterErrorFields): string {
  const fields = errors.map(({ field, message }) => `${field} ${message}`).join("; ");
  const where = [status, code, requestId].filter((part) => part !== undefined).join(", ");
  return `${fields === "" || detail.includes(fields) ? detail : `${detail} ${fields}.`} (${where})`;
}
