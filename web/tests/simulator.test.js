import assert from 'node:assert/strict';
import { server, simulator } from '../chromium.js';
import { browserTest, call, until } from './browser.js';
import { authorize, execute } from '../swagger.js';

const { KEYMETER_API_KEY: customer, KEYMETER_SERVICE_TOKEN: service } = process.env;

const credits = async () => (await call(customer, '/v1/usage')).credits;

async function advance(page, step) {
  await page.getByRole('button', { name: `Advance by ${step}` }).click();
}

/** Reloads the simulator's page until it shows what Keymeter and the simulator have arranged. */
async function awaitOnPage(page, what, locator) {
  await until(what, async () => {
    await page.goto(simulator);
    return await locator.count() > 0;
  });
}

browserTest('a person subscribes, spends into overage, and sees it billed a month later', async (page) => {
  const checkout = await call(customer, '/v1/billing/checkout', {
    tier: 'pro', successUrl: `${server}/reference`, cancelUrl: `${server}/docs`,
  });
  await page.goto(checkout.url);
  await page.getByRole('heading', { name: 'Subscribe to Pro' }).waitFor();
  await page.getByRole('button', { name: 'Subscribe' }).click();
  await page.waitForURL(`${server}/reference`);
  await until('the tier is pro', async () => (await call(customer, '/v1/billing/subscription')).tier === 'pro');

  const [key] = (await call(customer, '/v1/keys')).data;
  await call(service, '/v1/usage/events', { id: 'browser-1', keyId: key.id, category: 'rag', credits: 250_000 });
  await page.goto(simulator);
  await advance(page, '1 month');
  const overage = page.getByRole('row').filter({ hasText: /Usage beyond the plan, .*: 50000 credits at \$0\.0008/ });
  await awaitOnPage(page, 'the overage is on the invoice', overage);
  assert.equal(await overage.getByRole('cell').last().innerText(), '$40.00');

  await advance(page, '1 hour');
  await advance(page, '1 hour');
  await awaitOnPage(page, 'the invoice is paid', page.getByRole('heading', { name: /^Invoice .* · paid · \$\d+/ }).nth(1));

  await until('the new month has begun', async () => (await credits()).used === 0);
  await advance(page, '1 month');
  await advance(page, '1 hour');
  await advance(page, '1 hour');
  await until('the second month has begun', async () => (await credits()).limit > 200_000);
  await page.goto(`${server}/docs`);
  await authorize(page, 'customerKey', customer);
  const usage = await execute(page, 'Usage', 'getUsage');
  assert.equal(usage.body.credits.limit, 400_000, 'what was not used in the month before is carried over');
});
