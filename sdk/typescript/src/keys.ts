import type { CreatedKey, Key, KeyList, RotatedKey, VerifyKeyResult } from "./contract.js";
import { KeymeterError } from "./errors.js";
import { List } from "./list.js";
import type { Body, Query } from "./operation.js";
import type { CallOptions, OnceOptions, Transport } from "./transport.js";

/** API keys. Customers manage their own; services verify them. */
export class Keys {
  readonly #http: Transport;

  constructor(http: Transport) {
    this.#http = http;
  }

  /** The account's keys that are not revoked, newest first. */
  list(query: Query<"listKeys"> = {}, options: CallOptions = {}): List<KeyList> {
    const page = (cursor?: string) =>
      this.#http.repeatable(options, (init) =>
        this.#http.api.GET("/v1/keys", { ...init, params: { query: { ...query, ...(cursor && { cursor }) } } }),
      );
    return new List(page);
  }

  /** Creates a key. Its raw value is in this answer and nowhere else. */
  create(body: Body<"createKey"> = {}, options: OnceOptions = {}): Promise<CreatedKey> {
    return this.#http.once(options, (init) => this.#http.api.POST("/v1/keys", { ...init, body }));
  }

  /** One key that is not revoked. */
  get(keyId: string, options: CallOptions = {}): Promise<Key> {
    return this.#http.repeatable(options, (init) =>
      this.#http.api.GET("/v1/keys/{keyId}", { ...init, params: { path: { keyId } } }),
    );
  }

  /** Changes what is named. What is left out stays; null takes a limit away. */
  update(keyId: string, body: Body<"updateKey">, options: CallOptions = {}): Promise<Key> {
    return this.#http.repeatable(options, (init) =>
      this.#http.api.PATCH("/v1/keys/{keyId}", { ...init, params: { path: { keyId } }, body }),
    );
  }

  /** Revokes a key. Every server refuses it once this returns. */
  async revoke(keyId: string, options: CallOptions = {}): Promise<void> {
    let tries = 0;
    try {
      await this.#http.repeatable(options, (init) => {
        tries++;
        return this.#http.api.DELETE("/v1/keys/{keyId}", { ...init, params: { path: { keyId } } });
      });
    } catch (error) {
      // An earlier try, whose answer was lost, may have revoked it. Either way it is no key now.
      if (tries > 1 && error instanceof KeymeterError && error.code === "key_not_found") return;
      throw error;
    }
  }

  /** Puts a new key into an old one's place, at once or after `overlapSeconds`. */
  rotate(keyId: string, body: Body<"rotateKey"> = {}, options: OnceOptions = {}): Promise<RotatedKey> {
    return this.#http.once(options, (init) =>
      this.#http.api.POST("/v1/keys/{keyId}/rotate", { ...init, params: { path: { keyId } }, body }),
    );
  }

  /**
   * Tells whether a customer's key may be used, and spends the cost, if there is one. Each try has the same `eventId`, so
   * that the cost is spent once; it is random if left out. A refusal is an answer, an error never is one.
   */
  verify(body: Body<"verifyKey">, options: CallOptions = {}): Promise<VerifyKeyResult> {
    const sent = body.cost === undefined ? body : { ...body, eventId: body.eventId ?? crypto.randomUUID() };
    return this.#http.repeatable(options, (init) => this.#http.api.POST("/v1/keys/verify", { ...init, body: sent }));
  }
}
