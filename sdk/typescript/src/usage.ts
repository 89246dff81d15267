import type {
  RecordedEventList,
  Reversal,
  Statement,
  Usage as UsageTotals,
  UsageEvent,
  UsageEventResult,
  UsageTimeseries,
} from "./contract.js";
import { List } from "./list.js";
import type { Body, Query } from "./operation.js";
import type { CallOptions, OnceOptions, Transport, Try } from "./transport.js";

/** What was used. Services record it; customers read it. */
export class Usage {
  readonly #http: Transport;

  constructor(http: Transport) {
    this.#http = http;
  }

  /** Credits used in the current billing period. */
  get(options: CallOptions = {}): Promise<UsageTotals> {
    return this.#http.repeatable(options, (init) => this.#http.api.GET("/v1/usage", init));
  }

  /** Records an event. Its id makes it count once, however often it is sent. A refusal is an error. */
  async record(event: UsageEvent, options: OnceOptions = {}): Promise<UsageEventResult> {
    const [result] = await this.#record(event, options);
    return result as UsageEventResult; // one for each event
  }

  /** Records up to 1,000 events. Read the results: each event has its own, in the order sent. */
  recordBatch(events: UsageEvent[], options: OnceOptions = {}): Promise<UsageEventResult[]> {
    return this.#record({ events }, options);
  }

  async #record(body: Body<"recordUsage">, options: OnceOptions): Promise<UsageEventResult[]> {
    const http = this.#http;
    const send = (init: Try) => http.api.POST("/v1/usage/events", { ...init, body });
    // The events' ids make this safe to repeat, and a kept answer costs the server more than they do.
    const repeat = options.idempotencyKey === undefined;
    const answer = await (repeat ? http.repeatable(options, send) : http.once(options, send));
    return answer.results;
  }

  /** The account's events as they stand in the ledger, the last recorded first. */
  events(query: Query<"listUsageEvents"> = {}, options: CallOptions = {}): List<RecordedEventList> {
    const page = (cursor?: string) =>
      this.#http.repeatable(options, (init) =>
        this.#http.api.GET("/v1/usage/events", { ...init, params: { query: { ...query, ...(cursor && { cursor }) } } }),
      );
    return new List(page);
  }

  /** Gives the credits of an event back, once. */
  reverse(eventId: string, body: Body<"reverseUsage">, options: OnceOptions = {}): Promise<Reversal> {
    return this.#http.once(options, (init) =>
      this.#http.api.POST("/v1/usage/events/{eventId}/reversal", { ...init, params: { path: { eventId } }, body }),
    );
  }

  /** Usage over time, in hours or days, by category and by key. */
  timeseries(query: Query<"getUsageTimeseries"> = {}, options: CallOptions = {}): Promise<UsageTimeseries> {
    return this.#http.repeatable(options, (init) =>
      this.#http.api.GET("/v1/usage/timeseries", { ...init, params: { query } }),
    );
  }

  /** What happened to the credits in a billing period, each line with its cause. */
  statement(query: Query<"getStatement"> = {}, options: CallOptions = {}): Promise<Statement> {
    return this.#http.repeatable(options, (init) =>
      this.#http.api.GET("/v1/usage/statement", { ...init, params: { query } }),
    );
  }
}
