import { Keymeter, type Account, type KeymeterOptions } from "@keymeter/sdk";

/** A setting that scripts/with-server gives. */
export function setting(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run the tests with scripts/sdk-typescript`);
  return value;
}

export const baseUrl = setting("KEYMETER_URL");
export const serviceToken = setting("KEYMETER_SERVICE_TOKEN");
export const operatorToken = setting("KEYMETER_OPERATOR_TOKEN");

export const operator = new Keymeter({ baseUrl, credential: operatorToken });
export const service = new Keymeter({ baseUrl, credential: serviceToken });

/** A customer of its own, with 2,500 credits and a key. */
export async function newCustomer(options: Partial<KeymeterOptions> = {}): Promise<Customer> {
  const account = await operator.accounts.create({ name: "Test" });
  const { id, key } = await operator.accounts.createKey(account.id);
  return { account, keyId: id, key, km: new Keymeter({ baseUrl, credential: key, ...options }) };
}

export interface Customer {
  account: Account;
  keyId: string;
  key: string;
  km: Keymeter;
}
