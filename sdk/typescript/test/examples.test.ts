import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import test from "node:test";
import { promisify } from "node:util";
import { app } from "../examples/express.js";
import worker from "../examples/fetch.js";
import hono from "../examples/hono.js";
import { newCustomer } from "./server.js";

const printed = {
  keys: `created Production, shown once: plabs_sk_live...
rotated: a new key, the old one works for an hour
listed Production
listed Production
listed Default
revoked: key_not_found
`,
  metering: `valid: spent 94
held 500, charged 103
recorded 6: fine
refused 0: credits_exhausted
`,
};

for (const [name, expected] of Object.entries(printed)) {
  test(`examples/${name}.ts`, async () => {
    const { key } = await newCustomer();
    const env = { ...process.env, KEYMETER_API_KEY: key };
    const { stdout } = await promisify(execFile)(process.execPath, [`build/js/examples/${name}.js`], { env });
    assert.equal(stdout, expected);
  });
}

async function serves(ask: (request: Request) => Promise<Response> | Response): Promise<void> {
  const { key } = await newCustomer();
  const served = await ask(new Request("http://api.test/", { headers: { Authorization: `Bearer ${key}` } }));
  assert.deepEqual(await served.json(), { answer: 42, credits: 2 });
  const refused = await ask(new Request("http://api.test/"));
  assert.deepEqual([refused.status, refused.headers.get("Content-Type")], [401, "application/problem+json"]);
}

test("examples/fetch.ts", () => serves(worker.fetch));
test("examples/hono.ts", () => serves(hono.fetch));
test("examples/express.ts", async () => {
  const server = app.listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  await serves((request) => fetch(url, { headers: request.headers }));
  server.closeAllConnections();
  server.close();
});
