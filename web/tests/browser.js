import assert from 'node:assert/strict';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { launch, server, simulator } from '../chromium.js';

let browser;
before(async () => { browser = await launch(); });
after(() => browser?.close());

/**
 * Runs a test in a browser of its own cookies and storage. It fails if the page complains in the console (as of its
 * policy) or wants something from another server. `expected` are complaints that belong to the test.
 */
export function browserTest(name, run, { expected = [] } = {}) {
  test(name, { timeout: 120_000 }, async () => {
    const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
    const page = await context.newPage();
    const complaints = listen(context);
    try {
      await run(page);
      assert.deepEqual(complaints.filter((text) => !expected.includes(text)), []);
    } catch (error) {
      const path = join(await mkdtemp(join(tmpdir(), 'keymeter-page-')), 'page.png');
      await page.screenshot({ path });
      console.error(`"${name}" failed at ${page.url()}: ${path}\n${complaints.join('\n')}`);
      throw error;
    } finally {
      await context.close();
    }
  });
}

function listen(context) {
  const complaints = [];
  context.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) complaints.push(message.text());
  });
  context.on('weberror', (error) => complaints.push(String(error.error())));
  context.on('request', (request) => {
    const { protocol, origin } = new URL(request.url());
    if (!['data:', 'blob:'].includes(protocol) && ![server, simulator].includes(origin)) {
      complaints.push(`asked another server: ${request.url()}`);
    }
  });
  return complaints;
}

/** Calls Keymeter without a browser. */
export async function call(credential, path, body) {
  const answer = await fetch(server + path, {
    method: body ? 'POST' : 'GET',
    headers: { authorization: `Bearer ${credential}`, 'content-type': 'application/json' },
    body: body && JSON.stringify(body),
  });
  const content = await answer.json();
  assert.ok(answer.ok, JSON.stringify(content));
  return content;
}

/** Asks until the answer is as wanted, for half a minute. */
export async function until(what, ask) {
  for (const end = Date.now() + 30_000; Date.now() < end;) {
    if (await ask()) return;
    await new Promise((resolve) => { setTimeout(resolve, 100); });
  }
  assert.fail(`waited in vain: ${what}`);
}
