// Takes the picture of /docs. From the project's folder:
//   KEYMETER_CHROMIUM=$(scripts/chromium) scripts/with-server node web/picture.js docs/pictures/docs-page.png
import { launch, server } from './chromium.js';
import { authorize, execute } from './swagger.js';

const browser = await launch();
const page = await browser.newPage({ viewport: { width: 1100, height: 820 } });
await page.goto(`${server}/docs`);
await authorize(page, 'customerKey', process.env.KEYMETER_API_KEY);
await execute(page, 'Usage', 'getUsage');
const block = page.locator('#operations-Usage-getUsage');
await block.locator('.curl-command').evaluate((curl) => curl.remove()); // has the key in it
await block.screenshot({ path: process.argv[2] });
await browser.close();
