import assert from "node:assert/strict";
import test, { afterEach, before, after, beforeEach } from "node:test";
import { Keymeter, KeymeterConnectionError, KeymeterError } from "@keymeter/sdk";
import { cut, hang, html, lose, type Misbehaviour, problem, Proxy, reset } from "./proxy.js";
import { type Customer, newCustomer, serviceToken } from "./server.js";

let proxy: Proxy;
let customer: Customer;
let km: Keymeter;
let service: Keymeter;

before(async () => {
  proxy = await Proxy.start();
  customer = await newCustomer();
  km = new Keymeter({ baseUrl: proxy.url, credential: customer.key });
  service = new Keymeter({ baseUrl: proxy.url, credential: serviceToken });
});
after(() => proxy.close());
beforeEach(() => proxy.seen.splice(0));
afterEach(() => assert.equal(proxy.next.length, 0, "every misbehaviour was met"));

const retryAt = { "Retry-After": "0" };

for (const [name, misbehave] of Object.entries({
  "a 503": problem(503, "unavailable", retryAt),
  "a 500": problem(500, "internal_error"),
  "a 429 of a proxy": html(429, retryAt),
  "a page with 502": html(502),
  "a reset": reset,
  "an answer that breaks off": cut,
} satisfies Record<string, Misbehaviour>)) {
  test(`a read is tried again after ${name}`, async () => {
    proxy.next.push(misbehave);
    assert.equal((await km.usage.get()).credits.limit, 2500);
    assert.equal(proxy.seen.length, 2);
  });
}

test("a key whose answer was lost is created once, and returned", async () => {
  proxy.next.push(lose, lose);
  const created = await km.keys.create({ name: "Lost" });
  assert.equal(new Set(proxy.seen.map((seen) => seen.headers["idempotency-key"])).size, 1);
  assert.equal(proxy.seen.length, 3);
  const named = [];
  for await (const key of km.keys.list()) if (key.name === "Lost") named.push(key.id);
  assert.deepEqual(named, [created.id]);
});

test("two calls have two Idempotency-Keys, and a given one is sent as it is", async () => {
  const [a, b] = [await km.keys.create({ name: "A" }), await km.keys.create({ name: "A" })];
  assert.notEqual(a.id, b.id);
  const [c, d] = [await km.keys.create({}, { idempotencyKey: "mine" }), await km.keys.create({}, { idempotencyKey: "mine" })];
  assert.equal(c.key, d.key);
});

for (const [name, id] of Object.entries({ "no eventId": {}, "an eventId that is undefined": { eventId: undefined } })) {
  test(`a verify with ${name} whose answer was lost spends once`, async () => {
    const used = (await km.usage.get()).credits.used;
    proxy.next.push(lose);
    const cost = { category: "rag", credits: 5 } as const;
    const verdict = await service.keys.verify({ key: customer.key, cost, ...(id as { eventId?: string }) });
    assert.equal(verdict.duplicate, true);
    assert.equal((await km.usage.get()).credits.used, used + 5);
  });
}

test("an event whose answer was lost counts once", async () => {
  const used = (await km.usage.get()).credits.used;
  proxy.next.push(lose, problem(503, "unavailable", retryAt));
  const event = { id: crypto.randomUUID(), keyId: customer.keyId, category: "rag", credits: 3 } as const;
  assert.deepEqual(await service.usage.record(event), { id: event.id, status: "recorded", duplicate: true, credits: 3 });
  assert.equal((await km.usage.get()).credits.used, used + 3);
});

test("a batch tells what became of each event", async () => {
  const event = { id: crypto.randomUUID(), category: "rag", credits: 1 } as const;
  const results = await service.usage.recordBatch([
    { ...event, keyId: customer.keyId },
    { ...event, accountId: "acct_none" },
  ]);
  assert.deepEqual(results.map((r) => [r.status, r.code]), [["recorded", undefined], ["refused", "account_not_found"]]);
});

test("a key whose revocation was lost counts as revoked", async () => {
  const { id } = await km.keys.create({ name: "Revoked" });
  proxy.next.push(lose);
  await km.keys.revoke(id);
  await assert.rejects(km.keys.revoke(id), { status: 404, code: "key_not_found" });
});

test("an Idempotency-Key that is still in use is asked for again", async () => {
  proxy.next.push(problem(409, "idempotency_in_progress"));
  assert.equal((await km.keys.create({ name: "Slow" })).name, "Slow");
});

for (const [name, misbehave] of Object.entries({
  "a 400": problem(400, "invalid_request"),
  "a 404": html(404),
  "a 409": problem(409, "event_conflict"),
  "billing that is not set up": problem(503, "billing_not_configured", { "Retry-After": "1" }),
  "a wait that is too long": problem(503, "unavailable", { "Retry-After": "3600" }),
  "a redirect": html(307, { Location: "/elsewhere" }),
} satisfies Record<string, Misbehaviour>)) {
  test(`nothing is tried again after ${name}`, async () => {
    proxy.next.push(misbehave);
    await assert.rejects(km.keys.create(), KeymeterError);
    assert.equal(proxy.seen.length, 1);
  });
}

test("overage is billed again by one try", async () => {
  proxy.next.push(reset);
  await assert.rejects(service.billing.retryOverage("ovg_1"), KeymeterConnectionError);
  assert.equal(proxy.seen.length, 1);
});

test("tries end, and the last error is told", async () => {
  proxy.next.push(reset, html(502), problem(503, "unavailable", { "Retry-After": "25" }));
  const started = performance.now();
  await assert.rejects(km.usage.get(), { status: 503, code: "unavailable", retryAfter: 25, requestId: "req_1" });
  assert.ok(performance.now() - started < 20_000, "no wait after the last try");
  proxy.next.push(html(502));
  await assert.rejects(km.usage.get({ retries: 0 }), { status: 502, code: "unexpected_answer" });
});

test("Retry-After is honoured", async () => {
  proxy.next.push(problem(503, "unavailable", { "Retry-After": "1" }));
  const started = performance.now();
  await km.usage.get();
  assert.ok(performance.now() - started >= 1000);
});

test("each try has its own limit of time", async () => {
  proxy.next.push(hang);
  assert.equal((await km.usage.get({ timeoutMs: 1000 })).credits.limit, 2500);
  proxy.next.push(hang);
  await assert.rejects(km.usage.get({ timeoutMs: 50, retries: 0 }), { name: "KeymeterConnectionError", code: "timeout" });
});

test("a signal ends a call, and a wait, with its reason", async () => {
  const reason = new Error("enough");
  await assert.rejects(km.usage.get({ signal: AbortSignal.abort(reason) }), reason);
  assert.equal(proxy.seen.length, 0);
  for (const misbehave of [hang, problem(503, "unavailable", { "Retry-After": "20" })]) {
    proxy.next.push(misbehave);
    const ending = new AbortController();
    setTimeout(() => ending.abort(reason), 100);
    await assert.rejects(km.usage.get({ signal: ending.signal }), reason);
  }
  assert.equal(proxy.seen.length, 2);
});
