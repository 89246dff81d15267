import assert from 'node:assert/strict';
import axe from 'axe-core';
import { server } from '../chromium.js';
import { browserTest } from './browser.js';

async function contract() {
  const { paths } = await (await fetch(`${server}/openapi.json`)).json();
  return Object.values(paths).flatMap((item) => Object.values(item)).filter((operation) => operation.operationId);
}

async function open(page) {
  await page.goto(`${server}/reference`);
  await page.getByRole('heading', { name: 'Keymeter API' }).waitFor();
}

browserTest('/reference shows every operation', async (page) => {
  const wanted = (await contract()).map(({ operationId, summary }) => `${operationId}: ${summary}`);
  assert.ok(wanted.length > 30, `the contract has ${wanted.length} operations`);
  await open(page);
  const sections = page.locator('[id*="/operation/"]');
  await sections.nth(wanted.length - 1).waitFor();
  const shown = await sections.evaluateAll((all) => all.map(
    (section) => `${section.id.split('/').pop()}: ${section.querySelector('h2').innerText.trim()}`,
  ));
  assert.deepEqual(shown.sort(), wanted.sort());
});

browserTest('/reference finds what is searched for', async (page) => {
  await open(page);
  await page.getByRole('textbox', { name: 'Search' }).fill('rotate');
  await page.getByRole('search').getByRole('menuitem', { name: 'Rotate an API key' }).click();
  await page.waitForURL(/#tag\/Keys\/operation\/rotateKey$/);
});

browserTest('/reference can be read by everybody', async (page) => {
  await open(page);
  await page.evaluate(axe.source);
  const { violations, passes } = await page.evaluate(() => window.axe.run({ runOnly: ['wcag2a', 'wcag2aa'] }));
  assert.ok(passes.length > 10, 'the rules were tried');
  assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`), []);
});
