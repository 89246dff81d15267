import assert from 'node:assert/strict';
import { server } from '../chromium.js';
import { browserTest } from './browser.js';
import { authorize, execute } from '../swagger.js';

const refused = 'Failed to load resource: the server responded with a status of 401 (Unauthorized)';

browserTest('a customer tries the API on /docs', async (page) => {
  await page.goto(`${server}/docs`);
  const without = await execute(page, 'Keys', 'listKeys');
  assert.equal(without.status, '401');
  assert.equal(without.body.code, 'missing_credential');

  await authorize(page, 'customerKey', process.env.KEYMETER_API_KEY);
  const created = await execute(page, 'Keys', 'createKey');
  assert.equal(created.status, '201');
  assert.match(created.body.key, /^plabs_sk_live_/);
  const listed = await execute(page, 'Keys', 'listKeys');
  assert.equal(listed.status, '200');
  assert.ok(listed.body.data.some((key) => key.id === created.body.id), 'the new key is listed');
}, { expected: [refused] });

browserTest('/docs forgets the credential', async (page) => {
  await page.goto(`${server}/docs`);
  await authorize(page, 'customerKey', process.env.KEYMETER_API_KEY);
  assert.equal((await execute(page, 'Keys', 'listKeys')).status, '200');
  assert.deepEqual(await page.evaluate(() => [localStorage.length, sessionStorage.length, document.cookie]), [0, 0, '']);
  await page.goto(`${server}/docs`);
  assert.equal((await execute(page, 'Keys', 'listKeys')).status, '401');
}, { expected: [refused] });
