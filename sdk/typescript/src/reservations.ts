import type { Reservation } from "./contract.js";
import type { Body } from "./operation.js";
import type { OnceOptions, Transport } from "./transport.js";

/** Credits held for work whose cost is known only at its end. For services. */
export class Reservations {
  readonly #http: Transport;

  constructor(http: Transport) {
    this.#http = http;
  }

  /** Holds credits. A hold that nobody ends frees itself. */
  create(body: Body<"reserveCredits">, options: OnceOptions = {}): Promise<Reservation> {
    return this.#http.once(options, (init) => this.#http.api.POST("/v1/usage/reservations", { ...init, body }));
  }

  /** Ends a hold with what the work cost: less, as much, or more. */
  settle(reservationId: string, body: Body<"settleReservation">, options: OnceOptions = {}): Promise<Reservation> {
    return this.#http.once(options, (init) =>
      this.#http.api.POST("/v1/usage/reservations/{reservationId}/settle", {
        ...init,
        params: { path: { reservationId } },
        body,
      }),
    );
  }

  /** Ends a hold at no cost. */
  release(reservationId: string, options: OnceOptions = {}): Promise<Reservation> {
    return this.#http.once(options, (init) =>
      this.#http.api.POST("/v1/usage/reservations/{reservationId}/release", {
        ...init,
        params: { path: { reservationId } },
      }),
    );
  }
}
