import type { Keymeter } from "./client.js";
import type { Cost, Scope, VerifyCode, VerifyKeyResult } from "./contract.js";
import { KeymeterError } from "./errors.js";

/** What a guard asks of the customer's key. `R` is the request, as the framework has it. */
export interface GuardOptions<R> {
  /** What the key must be allowed to do. */
  scope?: Scope | undefined;
  /** What the request costs. It is spent before the handler runs; nothing is, if left out. */
  cost?: Cost | ((request: R) => Cost | undefined | Promise<Cost | undefined>) | undefined;
  /**
   * The id of the event that the cost becomes. Random, if left out. It must not be the customer's to choose: an id that
   * was spent before costs nothing again.
   */
  eventId?: ((request: R) => string) | undefined;
  /** The address of the customer's client. Keys with an allow-list are refused without it. */
  ip?: ((request: R) => string | undefined) | undefined;
  /** The customer's key. From `Authorization: Bearer`, if left out. */
  key?: ((request: R) => string | undefined) | undefined;
  /** Told when Keymeter gave no verdict: it is away, or the service token or the cost is wrong. */
  onError?: ((error: KeymeterError) => void) | undefined;
}

/** What Keymeter says of a key that may be used, and of what was spent. */
export type Verdict = VerifyKeyResult & Required<Pick<VerifyKeyResult, "keyId" | "accountId">>;

/** What is answered instead of the handler: an RFC 9457 problem document. */
export class Refusal {
  readonly status: number;
  readonly headers: Record<string, string>;
  readonly body: string;

  constructor(status: number, code: string, detail: string, headers: Record<string, string> = {}) {
    this.status = status;
    this.headers = { "Content-Type": "application/problem+json", "Cache-Control": "no-store", ...headers };
    const title = titles[status];
    this.body = JSON.stringify({ type: `urn:keymeter:problem:${code}`, title, status, detail, code });
  }
}

const titles: Record<number, string> = {
  401: "Unauthorized",
  402: "Payment Required",
  403: "Forbidden",
  429: "Too Many Requests",
  500: "Internal Server Error",
  503: "Service Unavailable",
};

/** Refusals that the customer is told the reason of. All others say that the key is not valid. */
const told: Partial<Record<VerifyCode, [status: number, detail: string]>> = {
  account_suspended: [403, "The account is suspended."],
  insufficient_scope: [403, "The key may not be used for this."],
  ip_not_allowed: [403, "The key may not be used from this address."],
  credits_exhausted: [402, "The request costs more credits than the account has left."],
  key_limit_exceeded: [402, "The request costs more credits than the key has left."],
  rate_limited: [429, "There were too many requests. Try again later."],
};

/** Asks Keymeter once, with as many tries as its client has, whether a request is to be served. */
export async function judge<R>(
  km: Keymeter,
  options: GuardOptions<R>,
  request: R,
  sent: { authorization: string | null | undefined; ip: string | undefined },
): Promise<Verdict | Refusal> {
  const key = options.key ? options.key(request) : bearer(sent.authorization);
  const challenge = options.key ? "ApiKey" : "Bearer";
  if (!key) return unauthorized("missing_credential", "An API key is needed.", challenge);
  const invalid = () => unauthorized("invalid_credential", "The API key is not valid.", `${challenge} error="invalid_token"`);
  if (key.length > 255) return invalid(); // Keymeter would take it for a mistake of ours
  const cost = typeof options.cost === "function" ? await options.cost(request) : options.cost;
  const ip = options.ip ? options.ip(request) : sent.ip;
  const eventId = cost && options.eventId?.(request);
  const { scope } = options;
  try {
    const verdict = await km.keys.verify({
      key,
      ...(scope && { scope }),
      ...(cost && { cost }),
      ...(ip && { ip }),
      ...(eventId && { eventId }),
    });
    const { keyId, accountId } = verdict;
    if (verdict.valid === true && keyId && accountId) return { ...verdict, keyId, accountId };
    if (verdict.valid === false) return refusalOf(verdict) ?? invalid();
    throw new KeymeterError({ status: 200, code: "unexpected_answer", detail: "The answer is not a verdict." });
  } catch (error) {
    if (!(error instanceof KeymeterError)) throw error;
    options.onError?.(error);
    return unknown(error);
  }
}

function refusalOf({ code, retryAfterSeconds = 1 }: VerifyKeyResult): Refusal | undefined {
  const reason = told[code];
  return reason && new Refusal(reason[0], code, reason[1], code === "rate_limited" ? { "Retry-After": `${retryAfterSeconds}` } : {});
}

/** Nothing is known of the key, so it is not refused. A mistake of the service is not worth another try. */
function unknown({ code, retryAfter = 1 }: KeymeterError): Refusal {
  if (code === "invalid_request" || code === "event_conflict") {
    return new Refusal(500, "internal_error", "Something went wrong on our side.");
  }
  const headers = { "Retry-After": `${Math.max(1, retryAfter)}` };
  return new Refusal(503, "unavailable", "The API key can't be checked right now. Try again.", headers);
}

function unauthorized(code: string, detail: string, challenge: string): Refusal {
  return new Refusal(401, code, detail, { "WWW-Authenticate": challenge });
}

function bearer(authorization: string | null | undefined): string | undefined {
  return /^Bearer +([!-~]+)$/i.exec(authorization ?? "")?.[1];
}
