import assert from "node:assert/strict";
import { createKey, getKey, listKeys, verifyKey } from "../../generated/orval/index.js";
import { KEYMETER_API_KEY, KEYMETER_SERVICE_TOKEN } from "../../settings.js";

const as = (credential: string, more: Record<string, string> = {}) => ({
  headers: { Authorization: `Bearer ${credential}`, ...more },
});

const listed = await listKeys({ limit: 1 }, as(KEYMETER_API_KEY));
assert.ok(listed.status === 200);
assert.equal(listed.data.data.length, 1);

const created = await createKey(
  { name: "orval", rateLimit: { requests: 5, windowSeconds: 60 } },
  as(KEYMETER_API_KEY, { "Idempotency-Key": "orval" }),
);
assert.ok(created.status === 201);

const verified = await verifyKey(
  { key: created.data.key, cost: { category: "rag", quantity: 1 } },
  as(KEYMETER_SERVICE_TOKEN),
);
assert.ok(verified.status === 200);
assert.deepEqual([verified.data.valid, verified.data.keyId, verified.data.credits], [true, created.data.id, 2]);

const missing = await getKey("key_none", as(KEYMETER_API_KEY));
assert.ok(missing.status === 404);
assert.equal(missing.data.code, "key_not_found");
