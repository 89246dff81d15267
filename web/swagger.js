/** Authorises Swagger UI by its dialog. */
export async function authorize(page, scheme, credential) {
  await page.getByRole('button', { name: 'Authorize', exact: true }).click();
  const form = page.locator('.dialog-ux .auth-container').filter({ hasText: scheme });
  await form.getByRole('textbox').fill(credential);
  await form.getByRole('button', { name: 'Apply credentials' }).click();
  await form.getByRole('button', { name: 'Remove authorization' }).waitFor();
  await page.getByRole('button', { name: 'Close', exact: true }).first().click();
}

/** Executes an operation with the values that its form holds, and returns the answer that the page shows. */
export async function execute(page, tag, operation) {
  const block = page.locator(`#operations-${tag}-${operation}`);
  const button = block.getByRole('button', { name: 'Execute' });
  if (!await button.isVisible()) await block.locator('.opblock-summary-control').click();
  const clear = block.getByRole('button', { name: 'Clear' });
  if (await clear.isVisible()) await clear.click(); // the answer of the last time
  await button.click();
  const answer = block.locator('.live-responses-table .response');
  return {
    status: (await answer.locator('.response-col_status').innerText()).trim().split(/\s/)[0],
    body: JSON.parse(await answer.locator('.highlight-code code').first().innerText()),
  };
}
