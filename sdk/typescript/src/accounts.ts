import type { Account, AccountList, AccountRateLimit, CreatedKey, Granted, LedgerPage } from "./contract.js";
import { List } from "./list.js";
import type { Body, Query } from "./operation.js";
import type { CallOptions, OnceOptions, Transport } from "./transport.js";

/** The customers. For operators. */
export class Accounts {
  readonly #http: Transport;

  constructor(http: Transport) {
    this.#http = http;
  }

  /** All accounts, newest first. */
  list(query: Query<"listAccounts"> = {}, options: CallOptions = {}): List<AccountList> {
    const page = (cursor?: string) =>
      this.#http.repeatable(options, (init) =>
        this.#http.api.GET("/v1/accounts", { ...init, params: { query: { ...query, ...(cursor && { cursor }) } } }),
      );
    return new List(page);
  }

  /** Creates an account, on the free tier. */
  create(body: Body<"createAccount">, options: OnceOptions = {}): Promise<Account> {
    return this.#http.once(options, (init) => this.#http.api.POST("/v1/accounts", { ...init, body }));
  }

  /** One account. */
  get(accountId: string, options: CallOptions = {}): Promise<Account> {
    return this.#http.repeatable(options, (init) =>
      this.#http.api.GET("/v1/accounts/{accountId}", { ...init, params: { path: { accountId } } }),
    );
  }

  /** Creates a key for an account, such as its first one. Its raw value is in this answer and nowhere else. */
  createKey(accountId: string, body: Body<"createAccountKey"> = {}, options: OnceOptions = {}): Promise<CreatedKey> {
    return this.#http.once(options, (init) =>
      this.#http.api.POST("/v1/accounts/{accountId}/keys", { ...init, params: { path: { accountId } }, body }),
    );
  }

  /** Limits the rate of requests over all keys of an account; `null` is no limit. */
  setRateLimit(
    accountId: string,
    body: Body<"setAccountRateLimit">,
    options: CallOptions = {},
  ): Promise<AccountRateLimit> {
    return this.#http.repeatable(options, (init) =>
      this.#http.api.PUT("/v1/accounts/{accountId}/rate-limit", { ...init, params: { path: { accountId } }, body }),
    );
  }

  /** Gives credits to an account, or takes unused ones away. */
  grant(accountId: string, body: Body<"grantCredits">, options: OnceOptions = {}): Promise<Granted> {
    return this.#http.once(options, (init) =>
      this.#http.api.POST("/v1/accounts/{accountId}/grants", { ...init, params: { path: { accountId } }, body }),
    );
  }

  /** Every entry of an account's ledger, the latest first. */
  ledger(accountId: string, query: Query<"listLedger"> = {}, options: CallOptions = {}): List<LedgerPage> {
    const page = (cursor?: string) =>
      this.#http.repeatable(options, (init) =>
        this.#http.api.GET("/v1/accounts/{accountId}/ledger", {
          ...init,
          params: { path: { accountId }, query: { ...query, ...(cursor && { cursor }) } },
        }),
      );
    return new List(page);
  }

  /** Suspends an account. Every server refuses its keys once this returns. */
  suspend(accountId: string, options: OnceOptions = {}): Promise<Account> {
    return this.#http.once(options, (init) =>
      this.#http.api.POST("/v1/accounts/{accountId}/suspend", { ...init, params: { path: { accountId } } }),
    );
  }

  /** Ends a suspension. */
  resume(accountId: string, options: OnceOptions = {}): Promise<Account> {
    return this.#http.once(options, (init) =>
      this.#http.api.POST("/v1/accounts/{accountId}/resume", { ...init, params: { path: { accountId } } }),
    );
  }

  /** Sets an account's tier by hand, without Stripe. */
  setTier(accountId: string, body: Body<"setAccountTier">, options: CallOptions = {}): Promise<Account> {
    return this.#http.repeatable(options, (init) =>
      this.#http.api.PUT("/v1/accounts/{accountId}/tier", { ...init, params: { path: { accountId } }, body }),
    );
  }
}
