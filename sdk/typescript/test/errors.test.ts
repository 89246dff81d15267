import assert from "node:assert/strict";
import test, { after, before } from "node:test";
import { inspect } from "node:util";
import { Keymeter, KeymeterConnectionError, KeymeterError } from "@keymeter/sdk";
import { html, type Misbehaviour, Proxy } from "./proxy.js";
import { baseUrl, newCustomer, serviceToken } from "./server.js";

let proxy: Proxy;
before(async () => {
  proxy = await Proxy.start();
});
after(() => proxy.close());

async function failure(call: PromiseLike<unknown>): Promise<KeymeterError> {
  try {
    await call;
  } catch (error) {
    assert.ok(error instanceof KeymeterError);
    return error;
  }
  assert.fail("the call succeeded");
}

test("a problem document becomes an error that has all of it", async () => {
  const { km } = await newCustomer();
  const error = await failure(km.keys.create({ expiresInDays: 999 }));
  assert.equal(error.status, 400);
  assert.equal(error.code, "invalid_request");
  assert.deepEqual(error.errors.map((e) => e.field), ["expiresInDays"]);
  assert.match(error.requestId ?? "", /^req_/);
  assert.match(error.message, /expiresInDays must be at most 365.*\(400, invalid_request, req_/);
  assert.ok(!(error instanceof KeymeterConnectionError));
});

test("a refusal of a single event is an error", async () => {
  const { keyId } = await newCustomer();
  const service = new Keymeter({ baseUrl, credential: serviceToken });
  const event = { id: crypto.randomUUID(), keyId, category: "rag", credits: 2501 } as const;
  assert.equal((await failure(service.usage.record(event))).code, "credits_exhausted");
});

test("no server is a connection error", async () => {
  const away = await Proxy.start();
  const { url } = away;
  away.close();
  const km = new Keymeter({ baseUrl: url, credential: "token", retries: 0 });
  const error = await failure(km.usage.get());
  assert.ok(error instanceof KeymeterConnectionError);
  assert.equal(error.code, "no_answer");
  assert.equal(error.status, undefined);
});

const pages: Record<string, Misbehaviour> = {
  "a page": html(200),
  "JSON that is none": (response) => response.writeHead(200, { "Content-Type": "application/json" }).end("<h1>"),
  "nothing": (response) => response.writeHead(200, { "Content-Length": "0" }).end(),
};
for (const [name, misbehave] of Object.entries(pages)) {
  test(`a 200 with ${name} is an error`, async () => {
    proxy.next.push(misbehave);
    const km = new Keymeter({ baseUrl: proxy.url, credential: "token" });
    const error = await failure(km.usage.get());
    assert.equal(error.code, "unexpected_answer");
    assert.equal(error.status, 200);
  });
}

test("errors and the client do not show the credential, nor the key that is verified", async () => {
  const credential = "secret_token";
  const key = "secret_customer_key";
  const km = new Keymeter({ baseUrl: proxy.url, credential, retries: 0 });
  const shown = [inspect(km, { depth: 9, showHidden: true })];
  for (const misbehave of [html(502), html(200), html(401), (response) => response.destroy()] satisfies Misbehaviour[]) {
    proxy.next.push(misbehave);
    const error = await failure(km.keys.verify({ key }));
    shown.push(inspect(error, { depth: 9, showHidden: true }), JSON.stringify(error), String(error.stack));
  }
  for (const bad of ["secret_token\n", "secret_token é"]) {
    const broken = () => new Keymeter({ baseUrl, credential: bad });
    assert.throws(broken, (error) => (shown.push(inspect(error)), error instanceof TypeError));
    const late = new Keymeter({ baseUrl, credential: () => bad }).usage.get();
    await assert.rejects(late, (error) => (shown.push(inspect(error)), error instanceof TypeError));
  }
  assert.deepEqual(shown.filter((text) => text.includes("secret")), []);
});

test("what can't be sent is the caller's own error", async () => {
  assert.throws(() => new Keymeter({ baseUrl: "keys.example.com", credential: "x" }), TypeError);
  const { km } = await newCustomer();
  await assert.rejects(km.keys.create({}, { idempotencyKey: "two words" }), TypeError);
  await assert.rejects(km.keys.create({ creditLimit: 5n as unknown as number }), TypeError);
});
