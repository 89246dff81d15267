// Compiled, not run: mistakes that the types must find.
import type { Keymeter, KeymeterError } from "@keymeter/sdk";

export function mistakes(km: Keymeter, error: KeymeterError): void {
  // @ts-expect-error There is no such field.
  void km.keys.create({ nam: "Production" });
  // @ts-expect-error There is no such scope.
  void km.keys.create({ scopes: ["everything"] });
  // @ts-expect-error A checkout needs to know of what.
  void km.billing.checkout();
  // @ts-expect-error There is no such tier.
  void km.accounts.setTier("acct_1", { tier: "gold" });
  // @ts-expect-error A quantity is a number.
  void km.usage.record({ id: "req_1", category: "rag", quantity: "3" });
  // @ts-expect-error A list is of keys, which have no raw value.
  void km.keys.list().then((page) => page.data[0]?.key);
  // @ts-expect-error There may have been no answer.
  error.status.toFixed();
  // @ts-expect-error Reads take no Idempotency-Key.
  void km.keys.get("key_1", { idempotencyKey: "once" });
}
