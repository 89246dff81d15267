import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import test, { after, before } from "node:test";
import { inspect } from "node:util";
import { type Cost, type GuardOptions, Keymeter, type KeymeterError, requireKey, verdictOf, withKey } from "@keymeter/sdk";
import express from "express";
import { html, lose, type Misbehaviour, problem, Proxy, reset } from "./proxy.js";
import { type Customer, newCustomer, operator, serviceToken } from "./server.js";

let proxy: Proxy;
let km: Keymeter;
let customer: Customer;
before(async () => {
  proxy = await Proxy.start();
  km = new Keymeter({ baseUrl: proxy.url, credential: serviceToken, retries: 1 });
  customer = await newCustomer();
});
after(() => proxy.close());

const rag: Cost = { category: "rag", credits: 10 };
const bad = (misbehave: Misbehaviour) => () => proxy.next.push(misbehave, misbehave);

function json(body: string): Misbehaviour {
  return (response) => response.writeHead(200, { "Content-Type": "application/json" }).end(body);
}

/** What docs/metering.md says, "Beside a gateway". */
const table: {
  name: string;
  options?: GuardOptions<unknown>;
  key?: () => string | undefined | Promise<string>;
  before?: () => unknown;
  client?: () => Keymeter;
  status: number;
  code: string;
  told?: string;
  headers?: Record<string, string | RegExp>;
}[] = [
  { name: "no key", key: () => undefined, status: 401, code: "missing_credential", headers: { "www-authenticate": "Bearer" } },
  { name: "an unknown key", key: () => "plabs_sk_live_nobody", status: 401, code: "invalid_credential", headers: { "www-authenticate": /invalid_token/ } },
  { name: "a key that is too long", key: () => "x".repeat(300), status: 401, code: "invalid_credential" },
  { name: "a revoked key", key: revoked, status: 401, code: "invalid_credential" },
  { name: "a key that is switched off", key: () => keyWith({ enabled: false }), status: 401, code: "invalid_credential" },
  { name: "a key without the scope", options: { scope: "tts" }, key: () => keyWith({ scopes: ["rag"] }), status: 403, code: "insufficient_scope" },
  { name: "a key from elsewhere", options: { ip: () => "203.0.113.7" }, key: () => keyWith({ allowedIps: ["192.0.2.0/24"] }), status: 403, code: "ip_not_allowed" },
  { name: "a suspended account", key: suspended, status: 403, code: "account_suspended" },
  { name: "too few credits", options: { cost: { category: "rag", credits: 2501 } }, status: 402, code: "credits_exhausted" },
  { name: "too few credits of the key", options: { cost: rag }, key: () => keyWith({ creditLimit: 5 }), status: 402, code: "key_limit_exceeded" },
  { name: "too many requests", key: overused, status: 429, code: "rate_limited", headers: { "retry-after": /^[1-9]\d*$/ } },
  { name: "a server that is away", before: bad(reset), status: 503, code: "unavailable", told: "no_answer", headers: { "retry-after": "1" } },
  { name: "a server that can't tell", before: () => proxy.next.push(problem(503, "unavailable", { "Retry-After": "60" })), status: 503, code: "unavailable", told: "unavailable", headers: { "retry-after": "60" } },
  { name: "a proxy's 429", before: bad(html(429)), status: 503, code: "unavailable", told: "unexpected_answer" },
  { name: "a proxy's 403", before: () => proxy.next.push(html(403)), status: 503, code: "unavailable", told: "unexpected_answer" },
  { name: "an answer that is no verdict", before: () => proxy.next.push(json("{}")), status: 503, code: "unavailable", told: "unexpected_answer" },
  { name: "a verdict without a key", before: () => proxy.next.push(json('{"valid":true,"code":"valid"}')), status: 503, code: "unavailable", told: "unexpected_answer" },
  { name: "a service token that is wrong", client: () => new Keymeter({ baseUrl: proxy.url, credential: "nobody" }), status: 503, code: "unavailable", told: "invalid_credential" },
  { name: "a cost that is wrong", options: { cost: { category: "tts", provider: "nobody", quantity: 1 } }, status: 500, code: "internal_error", told: "invalid_request" },
  { name: "an id of an event that was spent otherwise", options: { cost: rag, eventId: () => "spent" }, before: spend, status: 500, code: "internal_error", told: "event_conflict" },
];

for (const row of table) {
  test(`${row.name}: ${row.status} ${row.code}`, async () => {
    for (const ask of [askFetch, askNode]) {
      const key = await (row.key ?? (() => customer.key))();
      await row.before?.();
      let told: KeymeterError | undefined;
      const options = { ...row.options, onError: (error: KeymeterError) => (told = error) };
      const answer = await ask(row.client?.() ?? km, options, key);
      const body = await answer.text();
      assert.equal(answer.status, row.status, body);
      assert.equal(answer.headers.get("Content-Type"), "application/problem+json");
      const document = JSON.parse(body) as Record<string, unknown>;
      assert.equal(document["code"], row.code);
      assert.equal(document["status"], row.status);
      assert.equal(document["type"], `urn:keymeter:problem:${row.code}`);
      for (const [name, value] of Object.entries(row.headers ?? {})) {
        if (value instanceof RegExp) assert.match(answer.headers.get(name) ?? "", value);
        else assert.equal(answer.headers.get(name), value);
      }
      assert.equal(told?.code, row.told);
      assert.equal(proxy.next.length, 0);
      if (key) assert.ok(!`${body}${inspect(told, { depth: 9, showHidden: true })}`.includes(key), "the key is not shown");
    }
  });
}

for (const ask of [askFetch, askNode]) {
  test(`a request that is valid is served, and spent once (${ask.name})`, async () => {
    const { key, km: own, keyId } = await newCustomer();
    proxy.next.push(lose);
    const answer = await ask(km, { cost: () => Promise.resolve(rag) }, key);
    assert.equal(answer.status, 200);
    assert.equal(await answer.text(), `${keyId} has 2490`);
    assert.equal((await own.usage.get()).credits.used, 10);
    assert.equal((await ask(km, { cost: () => undefined }, key)).status, 200);
    assert.equal((await own.usage.get()).requestCount, 1);
  });
}

test("a guard of node:http tells Keymeter the client's address", async () => {
  const key = await keyWith({ allowedIps: ["127.0.0.1"] });
  assert.equal((await askNode(km, {}, key)).status, 200);
  assert.equal((await askFetch(km, {}, key)).status, 403);
});

test("what a handler of the service throws goes its usual way", async () => {
  const broken = () => {
    throw new Error("broken");
  };
  await assert.rejects(askFetch(km, { cost: broken }, customer.key), { message: "broken" });
  assert.equal((await askNode(km, { cost: broken }, customer.key)).status, 599);
});

test("a guard works in Express", async () => {
  const app = express();
  app.use(requireKey(km, { cost: (request) => ({ category: "rag", credits: request.path.length }), key: (request) => request.headers["x-api-key"]?.toString() }));
  app.get("/abc", (request, response) => {
    response.json(verdictOf(request).credits);
  });
  await serving(app, async (url) => {
    const answer = await fetch(`${url}/abc`, { headers: { "X-Api-Key": customer.key } });
    assert.equal(await answer.text(), "4");
    const refused = await fetch(`${url}/abc`);
    assert.deepEqual([refused.status, refused.headers.get("WWW-Authenticate")], [401, "ApiKey"]);
  });
});

/** Sends a request with a key through a guard of fetch's kind. */
async function askFetch(client: Keymeter, options: GuardOptions<unknown>, key: string | undefined): Promise<Response> {
  const guarded = withKey(client, options, (_request, verdict, after: string) => new Response(`${verdict.keyId} ${after} ${verdict.remaining}`));
  return guarded(new Request("http://api.test/", { headers: credential(key) }), "has");
}

/** Sends a request with a key through a guard of Node's kind. */
async function askNode(client: Keymeter, options: GuardOptions<unknown>, key: string | undefined): Promise<Response> {
  const guard = requireKey(client, options);
  const listener: RequestListener = (request, response) =>
    guard(request, response, (error) => {
      if (error !== undefined) return void response.writeHead(599).end();
      const { keyId, remaining } = verdictOf(request);
      response.end(`${keyId} has ${remaining}`);
    });
  return serving(listener, async (url) => {
    const answer = await fetch(url, { headers: credential(key) });
    return new Response(await answer.text(), { status: answer.status, headers: answer.headers });
  });
}

async function serving<T>(listener: RequestListener, use: (url: string) => Promise<T>): Promise<T> {
  const server = createServer(listener).listen(0, "127.0.0.1");
  await once(server, "listening");
  try {
    return await use(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

function credential(key: string | undefined): Record<string, string> {
  return key === undefined ? {} : { Authorization: `Bearer ${key}` };
}

async function keyWith(controls: Parameters<Keymeter["keys"]["create"]>[0]): Promise<string> {
  return (await customer.km.keys.create(controls)).key;
}

async function revoked(): Promise<string> {
  const { id, key } = await customer.km.keys.create();
  await customer.km.keys.revoke(id);
  return key;
}

async function suspended(): Promise<string> {
  const { account, key } = await newCustomer();
  await operator.accounts.suspend(account.id);
  return key;
}

async function overused(): Promise<string> {
  const key = await keyWith({ rateLimit: { requests: 1, windowSeconds: 86_400 } });
  assert.equal((await km.keys.verify({ key })).valid, true);
  return key;
}

async function spend(): Promise<void> {
  await km.keys.verify({ key: customer.key, cost: { category: "rag", credits: 1 }, eventId: "spent" });
}
