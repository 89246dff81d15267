import { Accounts } from "./accounts.js";
import { Billing } from "./billing.js";
import type { Health } from "./contract.js";
import { Keys } from "./keys.js";
import { Reservations } from "./reservations.js";
import { type CallOptions, type KeymeterOptions, Transport } from "./transport.js";
import { Usage } from "./usage.js";

/** A Keymeter server, as one credential sees it. */
export class Keymeter {
  /** Create, list, change, rotate, revoke and verify keys. */
  readonly keys: Keys;
  /** Record usage and read it. */
  readonly usage: Usage;
  /** Hold credits and settle them. */
  readonly reservations: Reservations;
  /** Subscribe, buy credits, set alerts and limits. */
  readonly billing: Billing;
  /** Create and keep accounts. */
  readonly accounts: Accounts;
  readonly #http: Transport;

  constructor(options: KeymeterOptions) {
    this.#http = new Transport(options);
    this.keys = new Keys(this.#http);
    this.usage = new Usage(this.#http);
    this.reservations = new Reservations(this.#http);
    this.billing = new Billing(this.#http);
    this.accounts = new Accounts(this.#http);
  }

  /** Whether the server's process is alive. */
  health(options: CallOptions = {}): Promise<Health> {
    return this.#http.repeatable(options, (init) => this.#http.api.GET("/healthz", init));
  }

  /** Whether the server can serve. If not, the call fails with 503. */
  ready(options: CallOptions = {}): Promise<Health> {
    return this.#http.repeatable(options, (init) => this.#http.api.GET("/readyz", init));
  }
}
