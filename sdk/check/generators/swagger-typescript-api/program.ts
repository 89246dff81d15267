import assert from "node:assert/strict";
import { Api, type HttpResponse, type Problem } from "../../generated/swagger-typescript-api/index.js";
import { KEYMETER_API_KEY, KEYMETER_SERVICE_TOKEN, KEYMETER_URL } from "../../settings.js";

const as = (credential: string) =>
  new Api({
    baseUrl: KEYMETER_URL,
    securityWorker: () => ({ headers: { Authorization: `Bearer ${credential}` } }),
    // It does not see that an answer is JSON where the contract refers to a shared response.
    baseApiParams: { secure: true, format: "json" },
  });
const customer = as(KEYMETER_API_KEY);

const listed = await customer.v1.listKeys({ limit: 1 });
assert.equal(listed.data.data.length, 1);

const created = await customer.v1.createKey(
  { name: "swagger-typescript-api", rateLimit: { requests: 5, windowSeconds: 60 } },
  { headers: { "Idempotency-Key": "swagger-typescript-api" } },
);

const verified = await as(KEYMETER_SERVICE_TOKEN).v1.verifyKey({
  key: created.data.key,
  cost: { category: "rag", quantity: 1 },
});
assert.deepEqual([verified.data.valid, verified.data.keyId, verified.data.credits], [true, created.data.id, 2]);

await assert.rejects(customer.v1.getKey("key_none"), (missing: HttpResponse<never, Problem>) => {
  assert.equal(missing.error.code, "key_not_found");
  return true;
});
