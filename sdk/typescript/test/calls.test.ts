import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import test from "node:test";
import { Keymeter, type KeymeterOptions } from "@keymeter/sdk";
import { parse } from "yaml";
import { baseUrl, newCustomer, operatorToken, serviceToken } from "./server.js";

/** Operations that the client deliberately does not have, and why. */
const left: Record<string, string> = { receiveStripeEvent: "Stripe alone calls it." };

interface Operation {
  operationId: string;
  parameters?: { $ref?: string }[];
}

test("every operation of the contract can be called, with an Idempotency-Key if it takes one", async () => {
  const contract = parse(await readFile("../../openapi.yaml", "utf8")) as { paths: Record<string, Record<string, Operation>> };
  const operations = Object.entries(contract.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method: method.toUpperCase(), ...operation })),
  );
  const calls = new Map<string, Request>();
  const recorded = async (request: Request) => {
    const path = new URL(request.url).pathname;
    // A template without parameters is matched first: /v1/keys/verify is no key.
    const called = operations
      .filter((o) => o.method === request.method && new RegExp(`^${o.path.replace(/\{\w+\}/g, "[^/]+")}$`).test(path))
      .sort((a, b) => a.path.split("{").length - b.path.split("{").length)[0];
    assert.ok(called, `${request.method} ${path} is not in the contract`);
    calls.set(called.operationId, request.clone());
    return fetch(request);
  };
  await callEverything({ fetch: recorded, retries: 0 });

  const expected = operations.map((o) => o.operationId).filter((id) => !(id in left));
  assert.deepEqual([...calls.keys()].sort(), expected.sort());
  for (const { operationId, parameters = [] } of operations) {
    const takes = parameters.some((p) => p.$ref === "#/components/parameters/IdempotencyKey");
    // Events are known by their ids.
    const sends = takes && operationId !== "recordUsage";
    assert.equal(calls.get(operationId)?.headers.has("Idempotency-Key") ?? false, sends, operationId);
  }
});

async function callEverything(options: Pick<KeymeterOptions, "fetch" | "retries">): Promise<void> {
  const operator = new Keymeter({ baseUrl, credential: operatorToken, ...options });
  const service = new Keymeter({ baseUrl, credential: () => serviceToken, ...options });
  const { account, keyId, key, km } = await newCustomer(options);

  assert.equal((await operator.health()).status, "ok");
  assert.equal((await operator.ready()).status, "ok");

  const created = await operator.accounts.create({ name: "Acme", externalId: `acme-${crypto.randomUUID()}` });
  assert.equal((await operator.accounts.get(created.id)).name, "Acme");
  assert.equal((await operator.accounts.list({ limit: 1 })).data.length, 1);
  const spare = await operator.accounts.createKey(account.id, { name: "Spare" });
  assert.equal((await operator.accounts.setTier(created.id, { tier: "scale" })).tier, "scale");
  assert.equal((await operator.accounts.suspend(created.id)).status, "suspended");
  assert.equal((await operator.accounts.resume(created.id)).status, "active");
  const limit = { requests: 1000, windowSeconds: 60 };
  assert.deepEqual((await operator.accounts.setRateLimit(account.id, { rateLimit: limit })).rateLimit, limit);
  const grant = { kind: "promotional", credits: 500, reason: "Welcome" } as const;
  assert.equal((await operator.accounts.grant(account.id, grant)).balance.limit, 3000);
  assert.ok((await operator.accounts.ledger(account.id, { type: "grant" })).data.length >= 2);
  assert.equal((await operator.billing.problems()).parkedOverage, 0);
  await assert.rejects(operator.billing.retryOverage("ovg_none"), { status: 404, code: "overage_not_found" });

  assert.equal((await service.keys.verify({ key, cost: { category: "rag", credits: 7 } })).credits, 7);
  const event = { id: crypto.randomUUID(), keyId, category: "tts", provider: "cartesia", quantity: 1200 } as const;
  assert.equal((await service.usage.record(event)).credits, 94);
  assert.equal((await service.usage.reverse(event.id, { accountId: account.id })).credits, 94);
  const hold = { keyId, category: "llm", credits: 500 } as const;
  const held = await service.reservations.create({ ...hold, eventId: crypto.randomUUID() });
  assert.equal((await service.reservations.settle(held.id, { credits: 120 })).credits, 120);
  const idle = await service.reservations.create({ ...hold, eventId: crypto.randomUUID() });
  assert.equal((await service.reservations.release(idle.id)).state, "released");

  assert.equal((await km.usage.get()).credits.used, 127);
  assert.equal((await km.usage.events({ category: "rag" })).data[0]?.credits, 7);
  assert.ok((await km.usage.timeseries({ bucket: "hour", groupBy: "category" })).data.length > 0);
  assert.equal((await km.usage.statement()).used.rag, 7);

  assert.equal((await km.keys.get(spare.id)).name, "Spare");
  assert.equal((await km.keys.update(spare.id, { name: "Renamed", creditLimit: 10 })).creditLimit, 10);
  const rotated = await km.keys.rotate(spare.id, { overlapSeconds: 60 });
  assert.equal(rotated.name, "Renamed");
  assert.equal((await km.keys.create({ name: "Third" })).name, "Third");
  assert.ok((await km.keys.list()).data.some((k) => k.id === rotated.id));
  await km.keys.revoke(rotated.id);

  const urls = { successUrl: "https://shop.test/yes", cancelUrl: "https://shop.test/no" };
  assert.equal((await km.billing.subscription()).tier, "free");
  assert.match((await km.billing.checkout({ tier: "pro", ...urls })).url, /^http/);
  assert.match((await km.billing.topUp({ credits: 50_000, ...urls })).url, /^http/);
  assert.match((await km.billing.portal()).url, /^http/);
  assert.deepEqual((await km.billing.setAlerts({ percents: [90] })).percents, [90]);
  assert.deepEqual((await km.billing.alerts()).percents, [90]);
  assert.equal((await km.billing.setSpendLimit({ overageCredits: 5 })).overageCredits, 5);
  assert.equal((await km.billing.spendLimit()).overageCredits, 5);
}
