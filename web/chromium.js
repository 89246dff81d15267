import { chromium } from 'playwright-core';

export const server = process.env.KEYMETER_URL;
export const simulator = process.env.KEYMETER_SIMULATOR_URL;

export const launch = () => chromium.launch({
  executablePath: process.env.KEYMETER_CHROMIUM,
  args: ['--disable-gpu', '--disable-quic', '--disable-sync'],
});
