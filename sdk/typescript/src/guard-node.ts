import type { Keymeter } from "./client.js";
import { type GuardOptions, judge, Refusal, type Verdict } from "./guard.js";

/** What is needed of a request of Node or Express. */
export interface NodeRequest {
  headers: { authorization?: string | undefined };
  socket: { remoteAddress?: string | undefined };
  /** Express's, which knows which proxies to trust. */
  ip?: string | undefined;
}

/** What is needed of a response of Node or Express. */
export interface NodeResponse {
  statusCode: number;
  setHeader(name: string, value: string): unknown;
  end(body: string): unknown;
}

const verdicts = new WeakMap<NodeRequest, Verdict>();

/**
 * Lets only requests pass whose key Keymeter finds valid, and spends what they cost. For Express, Connect and node:http.
 * `verdictOf` has the verdict.
 */
export function requireKey<R extends NodeRequest>(
  km: Keymeter,
  options: GuardOptions<R> = {},
): (request: R, response: NodeResponse, next: (error?: unknown) => void) => void {
  return (request, response, next) => {
    const ip = request.ip ?? request.socket.remoteAddress;
    const sent = { authorization: request.headers.authorization, ip: ip?.replace(/%.*/, "") };
    judge(km, options, request, sent).then((judged) => {
      if (judged instanceof Refusal) return refuse(response, judged);
      verdicts.set(request, judged);
      next();
    }, next);
  };
}

/** The verdict on a request that requireKey let pass. */
export function verdictOf(request: NodeRequest): Verdict {
  const verdict = verdicts.get(request);
  if (verdict === undefined) throw new Error("requireKey did not let this request pass");
  return verdict;
}

function refuse(response: NodeResponse, { status, headers, body }: Refusal): void {
  response.statusCode = status;
  for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
  response.end(body);
}
