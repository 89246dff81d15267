import type { Keymeter } from "./client.js";
import { type GuardOptions, judge, Refusal, type Verdict } from "./guard.js";

/**
 * Serves only requests whose key Keymeter finds valid, and spends what they cost. For handlers that take a Request and
 * return a Response, as in Next.js, Workers, Bun and Deno. What the platform hands on follows the verdict.
 */
export function withKey<R extends Request, Rest extends unknown[]>(
  km: Keymeter,
  options: GuardOptions<R>,
  handler: (request: R, verdict: Verdict, ...rest: Rest) => Response | Promise<Response>,
): (request: R, ...rest: Rest) => Promise<Response> {
  return async (request, ...rest) => {
    const verdict = await checkKey(km, options, request);
    return verdict instanceof Response ? verdict : handler(request, verdict, ...rest);
  };
}

/** Returns the verdict on a request that is to be served, or else the response that refuses it. */
export async function checkKey<R extends Request>(
  km: Keymeter,
  options: GuardOptions<R>,
  request: R,
): Promise<Verdict | Response> {
  const sent = { authorization: request.headers.get("Authorization"), ip: undefined };
  const judged = await judge(km, options, request, sent);
  if (!(judged instanceof Refusal)) return judged;
  return new Response(judged.body, { status: judged.status, headers: judged.headers });
}
