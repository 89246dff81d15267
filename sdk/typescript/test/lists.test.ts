import assert from "node:assert/strict";
import test from "node:test";
import { baseUrl, newCustomer, operator, service } from "./server.js";

test("a list goes through all of its pages", async () => {
  const requests: string[] = [];
  const { account, keyId, km } = await newCustomer({
    fetch: (request) => {
      requests.push(request.url.slice(baseUrl.length));
      return fetch(request);
    },
  });
  const ids = [keyId];
  for (let i = 0; i < 4; i++) ids.unshift((await km.keys.create()).id);
  requests.length = 0;

  const list = km.keys.list({ limit: 2 });
  assert.equal(requests.length, 0, "nothing is asked for before");
  const listed: string[] = [];
  for await (const key of list) listed.push(key.id);
  assert.deepEqual(listed, ids);
  assert.deepEqual(requests, ["/v1/keys?limit=2", `/v1/keys?limit=2&cursor=${ids[1]}`, `/v1/keys?limit=2&cursor=${ids[3]}`]);

  const first = await km.keys.list({ limit: 2 });
  assert.deepEqual([first.data.length, first.hasMore, first.nextCursor], [2, true, ids[1]]);
  const rest: string[] = [];
  for await (const key of km.keys.list({ limit: 2, cursor: first.nextCursor ?? "" })) rest.push(key.id);
  assert.deepEqual(rest, ids.slice(2));

  requests.length = 0;
  for await (const key of km.keys.list({ limit: 2 })) if (key.id === ids[1]) break;
  assert.equal(requests.length, 1, "a loop that ends asks for no more");

  const events = Array.from({ length: 5 }, (_, i) => ({ id: `e${i}`, keyId, category: "rag", credits: 1 }) as const);
  await service.usage.recordBatch(events);
  const pages: string[][] = [];
  for await (const page of km.usage.events({ limit: 2 }).pages()) pages.push(page.data.map((event) => event.id));
  assert.deepEqual(pages, [["e4", "e3"], ["e2", "e1"], ["e0"]]);

  const types = [];
  for await (const entry of operator.accounts.ledger(account.id, { limit: 2 })) types.push(entry.type);
  assert.deepEqual(types, [...Array<string>(5).fill("usage"), "grant"]);
  for await (const found of operator.accounts.list({ limit: 1 })) {
    assert.match(found.id, /^acct_/);
    if (found.id === account.id) return;
  }
  assert.fail("the account is not listed");
});

test("a list that can't be read fails", async () => {
  const { km } = await newCustomer();
  await assert.rejects(async () => {
    for await (const key of km.keys.list({ limit: 1000 })) assert.fail(key.id);
  }, { code: "invalid_request" });
  await assert.rejects(Promise.resolve(km.keys.list({ limit: 1000 })), { code: "invalid_request" });
});
