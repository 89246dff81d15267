import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { paths } from "../../generated/openapi-typescript/index.js";
import { KEYMETER_API_KEY, KEYMETER_SERVICE_TOKEN, KEYMETER_URL } from "../../settings.js";

const as = (credential: string) =>
  createClient<paths>({ baseUrl: KEYMETER_URL, headers: { Authorization: `Bearer ${credential}` } });
const customer = as(KEYMETER_API_KEY);

const listed = await customer.GET("/v1/keys", { params: { query: { limit: 1 } } });
assert.equal(listed.data?.data.length, 1);

const created = await customer.POST("/v1/keys", {
  params: { header: { "Idempotency-Key": "openapi-typescript" } },
  body: { name: "openapi-typescript", rateLimit: { requests: 5, windowSeconds: 60 } },
});
assert.ok(created.data);

const verified = await as(KEYMETER_SERVICE_TOKEN).POST("/v1/keys/verify", {
  body: { key: created.data.key, cost: { category: "rag", quantity: 1 } },
});
assert.deepEqual([verified.data?.valid, verified.data?.keyId, verified.data?.credits], [true, created.data.id, 2]);

const missing = await customer.GET("/v1/keys/{keyId}", { params: { path: { keyId: "key_none" } } });
assert.equal(missing.error?.code, "key_not_found");
