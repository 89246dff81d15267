import createClient, { type Client } from "openapi-fetch";
import type { paths } from "./contract.js";
import { errorOf, KeymeterConnectionError, KeymeterError } from "./errors.js";

/** How to reach a server, and how long to try. */
export interface KeymeterOptions {
  /** Where the server is, as `https://keys.example.com`. */
  baseUrl: string;
  /** A customer key, a service token or an operator token, or what returns one. */
  credential: string | (() => string | Promise<string>);
  /** Instead of the global `fetch`. */
  fetch?: ((request: Request) => Promise<Response>) | undefined;
  /** How often to try again what can be tried again. 2, if left out. */
  retries?: number | undefined;
  /** How long each try may take. 10,000, if left out. */
  timeoutMs?: number | undefined;
}

/** What can be said of each call. */
export interface CallOptions {
  /** Ends the call. It then fails with the signal's reason. */
  signal?: AbortSignal | undefined;
  /** Instead of the client's `retries`. */
  retries?: number | undefined;
  /** Instead of the client's `timeoutMs`. */
  timeoutMs?: number | undefined;
}

/** What can be said of each call that changes something once. */
export interface OnceOptions extends CallOptions {
  /** Each try carries it, so that the change happens once. Random, if left out; give your own to go on after a crash. */
  idempotencyKey?: string | undefined;
}

/** What each try of a call is made with. */
export type Try = {
  headers: Record<string, string>;
  signal: AbortSignal;
  fetch: (request: Request) => Promise<Response>;
};

/** What openapi-fetch makes of an answer. */
type Outcome<D> = { data?: D; error?: unknown; response: Response };

type Attempt<D> = (init: Try) => Promise<Outcome<D>>;

const maxPauseSeconds = 30;

/** Sends the calls of the contract: with the credential, a limit of time, and again where that is safe. */
export class Transport {
  readonly api: Client<paths>;
  readonly #credential: () => string | Promise<string>;
  readonly #fetch: (request: Request) => Promise<Response>;
  readonly #retries: number;
  readonly #timeoutMs: number;

  constructor(options: KeymeterOptions) {
    const { baseUrl, credential, fetch, retries = 2, timeoutMs = 10_000 } = options;
    if (!URL.canParse(baseUrl)) throw new TypeError("baseUrl is not an absolute URL");
    // A redirect would carry keys to wherever it leads.
    this.api = createClient<paths>({ baseUrl, redirect: "manual" });
    this.#credential = typeof credential === "function" ? credential : () => credential;
    this.#fetch = fetch ?? ((request) => globalThis.fetch(request));
    this.#retries = retries;
    this.#timeoutMs = timeoutMs;
    if (typeof credential === "string") printable("credential", credential);
  }

  /** A call that may be repeated as it is. */
  repeatable<D>(options: CallOptions, attempt: Attempt<D>): Promise<D> {
    return this.#send(options, options.retries ?? this.#retries, {}, attempt);
  }

  /** A call that may be repeated since each try carries the same Idempotency-Key. */
  once<D>(options: OnceOptions, attempt: Attempt<D>): Promise<D> {
    const key = options.idempotencyKey ?? crypto.randomUUID();
    return this.#send(options, options.retries ?? this.#retries, { "Idempotency-Key": key }, attempt);
  }

  /** A call that is tried once. */
  single<D>(options: CallOptions, attempt: Attempt<D>): Promise<D> {
    return this.#send(options, 0, {}, attempt);
  }

  async #send<D>(options: CallOptions, retries: number, extra: Record<string, string>, attempt: Attempt<D>): Promise<D> {
    for (let tries = 1; ; tries++) {
      try {
        return await this.#try(options, extra, attempt);
      } catch (error) {
        if (!(error instanceof KeymeterError) || tries > retries || !passing(error)) throw error;
        await pause(tries, error.retryAfter ?? 0, options.signal);
      }
    }
  }

  async #try<D>(options: CallOptions, extra: Record<string, string>, attempt: Attempt<D>): Promise<D> {
    const { signal, timeoutMs = this.#timeoutMs } = options;
    signal?.throwIfAborted();
    const authorization = `Bearer ${printable("credential", await this.#credential())}`;
    const headers: Record<string, string> = { Authorization: authorization };
    for (const [name, value] of Object.entries(extra)) headers[name] = printable(name, value);

    const ending = new AbortController();
    const timer = setTimeout(() => ending.abort(), timeoutMs);
    const abort = () => ending.abort();
    signal?.addEventListener("abort", abort);
    let sent = false;
    let response: Response | undefined;
    const fetch = async (request: Request) => {
      sent = true;
      response = await this.#fetch(request);
      return response;
    };
    try {
      return answerOf(await attempt({ headers, signal: ending.signal, fetch }));
    } catch (cause) {
      if (cause instanceof KeymeterError || !sent) throw cause;
      signal?.throwIfAborted();
      if (response !== undefined && cause instanceof SyntaxError) throw errorOf(response, undefined);
      if (ending.signal.aborted) throw new KeymeterConnectionError("timeout", `No answer in ${timeoutMs} ms.`, cause);
      throw new KeymeterConnectionError("no_answer", "No answer came.", cause);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
    }
  }
}

function answerOf<D>({ data, error, response }: Outcome<D>): D {
  if (!response.ok) throw errorOf(response, error);
  const json = response.headers.get("Content-Type")?.startsWith("application/json") ?? false;
  if (response.status !== 204 && !json) throw errorOf(response, undefined);
  return data as D;
}

/** Whether a failure may pass by itself. */
function passing({ status, code, retryAfter = 0 }: KeymeterError): boolean {
  if (code === "billing_not_configured" || retryAfter > maxPauseSeconds) return false;
  if (code === "idempotency_in_progress") return true; // an earlier try of ours is still running
  return status === undefined || status === 429 || [500, 502, 503, 504].includes(status);
}

/** Waits as long as the server says, and longer by chance the more tries there were, so that clients spread out. */
function pause(tries: number, seconds: number, signal: AbortSignal | undefined): Promise<void> {
  const ms = seconds * 1000 + Math.random() * Math.min(8000, 125 * 2 ** tries);
  return new Promise((resolve, reject) => {
    const abort = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", abort);
      resolve();
    }, ms);
    if (signal?.aborted) abort();
    signal?.addEventListener("abort", abort, { once: true });
  });
}

/** Refuses what can't be in a header, without repeating it as the platform's own error does. */
function printable(name: string, value: string): string {
  if (!/^[!-~]+$/.test(value)) throw new TypeError(`${name} must be printable ASCII without spaces`);
  return value;
}
