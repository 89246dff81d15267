// Takes the picture of /docs. From the project's folder:
//   KEYMETER_CHROMIUM=$(scripts/chromium) scripts/with-server node web/picture.js docs/pictures/docs-page.png
import { launch, server } from './chromium.js';
import { authorize, execute } from './swagger.js';

const { KEYMETER_API_KEY: customer, KEYMETER_SERVICE_TOKEN: service } = process.env;

async function verify(category, credits) {
  await fetch(`${server}/v1/keys/verify`, {
    method: 'POST',
    headers: { authorization: `Bearer ${service}`, 'content-type': 'application/json' },
    body: JSON.stringify({ key: customer, eventId: `picture-${category}`, cost: { category, credits } }),
  });
}

await verify('tts', 940);
await verify('llm', 120);
await verify('rag', 36);
const browser = await launch();
const page = await browser.newPage({ viewport: { width: 1000, height: 900 } });
await page.goto(`${server}/docs`);
await authorize(page, 'customerKey', customer);
await execute(page, 'Usage', 'getUsage');
await page.evaluate(() => document.activeElement.blur());
const block = page.locator('#operations-Usage-getUsage');
await block.locator('.curl-command').evaluate((curl) => curl.remove()); // has the whole key in it
const top = await block.boundingBox();
const headers = await block.locator('pre').filter({ hasText: 'x-request-id' }).boundingBox();
const scrolled = await page.evaluate(() => window.scrollY);
await page.screenshot({
  path: process.argv[2],
  fullPage: true,
  clip: { x: top.x, y: top.y + scrolled, width: top.width, height: headers.y + headers.height - top.y + 4 },
});
await browser.close();
