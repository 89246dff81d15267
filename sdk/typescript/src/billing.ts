import type { Alerts, BillingProblems, CheckoutSession, PortalSession, SpendLimit, Subscription } from "./contract.js";
import type { Body } from "./operation.js";
import type { CallOptions, OnceOptions, Transport } from "./transport.js";

/** What an account buys. For customers; what billing could not do is for operators. */
export class Billing {
  readonly #http: Transport;

  constructor(http: Transport) {
    this.#http = http;
  }

  /** The account's tier, what it includes, and its credits. */
  subscription(options: CallOptions = {}): Promise<Subscription> {
    return this.#http.repeatable(options, (init) => this.#http.api.GET("/v1/billing/subscription", init));
  }

  /** Where to send the user to subscribe, or to change the plan. */
  checkout(body: Body<"createCheckoutSession">, options: OnceOptions = {}): Promise<CheckoutSession> {
    return this.#http.once(options, (init) => this.#http.api.POST("/v1/billing/checkout", { ...init, body }));
  }

  /** Where to send the user to buy credits beside the plan. */
  topUp(body: Body<"createTopUp">, options: OnceOptions = {}): Promise<CheckoutSession> {
    return this.#http.once(options, (init) => this.#http.api.POST("/v1/billing/topup", { ...init, body }));
  }

  /** Where to send the user to see invoices and payment methods, or to cancel. */
  portal(body: Body<"createPortalSession"> = {}, options: OnceOptions = {}): Promise<PortalSession> {
    return this.#http.once(options, (init) => this.#http.api.POST("/v1/billing/portal", { ...init, body }));
  }

  /** Which thresholds of the period's credits have been passed. */
  alerts(options: CallOptions = {}): Promise<Alerts> {
    return this.#http.repeatable(options, (init) => this.#http.api.GET("/v1/billing/alerts", init));
  }

  /** Sets the thresholds; `null` goes back to the catalogue's. */
  setAlerts(body: Body<"setAlerts">, options: CallOptions = {}): Promise<Alerts> {
    return this.#http.repeatable(options, (init) => this.#http.api.PUT("/v1/billing/alerts", { ...init, body }));
  }

  /** How many credits the account lets itself use beyond its plan. */
  spendLimit(options: CallOptions = {}): Promise<SpendLimit> {
    return this.#http.repeatable(options, (init) => this.#http.api.GET("/v1/billing/spend-limit", init));
  }

  /** Limits the overage; `null` is no limit. */
  setSpendLimit(body: Body<"setSpendLimit">, options: CallOptions = {}): Promise<SpendLimit> {
    return this.#http.repeatable(options, (init) => this.#http.api.PUT("/v1/billing/spend-limit", { ...init, body }));
  }

  /** Stripe events and overage that billing could not handle. For operators. */
  problems(options: CallOptions = {}): Promise<BillingProblems> {
    return this.#http.repeatable(options, (init) => this.#http.api.GET("/v1/billing/problems", init));
  }

  /** Bills parked overage again. For operators. Tried once, since a second try is refused if the first one worked. */
  async retryOverage(overageId: string, options: CallOptions = {}): Promise<void> {
    await this.#http.single(options, (init) =>
      this.#http.api.POST("/v1/billing/overage/{overageId}/retry", { ...init, params: { path: { overageId } } }),
    );
  }
}
