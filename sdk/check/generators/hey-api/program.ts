import assert from "node:assert/strict";
import { client } from "../../generated/hey-api/client.gen.js";
import { createKey, getKey, listKeys, verifyKey } from "../../generated/hey-api/index.js";
import { KEYMETER_API_KEY, KEYMETER_SERVICE_TOKEN, KEYMETER_URL } from "../../settings.js";

client.setConfig({ baseUrl: KEYMETER_URL, auth: KEYMETER_API_KEY });

const listed = await listKeys({ query: { limit: 1 } });
assert.equal(listed.data?.data.length, 1);

const created = await createKey({
  headers: { "Idempotency-Key": "hey-api" },
  body: { name: "hey-api", rateLimit: { requests: 5, windowSeconds: 60 } },
});
assert.ok(created.data);

const verified = await verifyKey({
  auth: KEYMETER_SERVICE_TOKEN,
  body: { key: created.data.key, cost: { category: "rag", quantity: 1 } },
});
assert.deepEqual([verified.data?.valid, verified.data?.keyId, verified.data?.credits], [true, created.data.id, 2]);

const missing = await getKey({ path: { keyId: "key_none" } });
assert.equal(missing.error?.code, "key_not_found");
