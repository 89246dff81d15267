// Package stripesim is a stateful simulator of the part of Stripe that
// Keymeter uses: customers, the catalogue, Checkout, subscriptions, invoices and
// their items, proration, payments, refunds, disputes, the customer portal and
// signed webhooks.
//
// It exists because a stateless mock cannot show the things that break in
// practice: that a checkout makes exactly one subscription, that a renewal is a
// draft for an hour, that webhooks come in an order and may come again, that an
// answer is lost after the request took effect. It is written from Stripe's
// published behaviour and shares no code with Keymeter's Stripe adapter, so the
// two cannot share a mistake.
//
// What it is:
//
//   - API version 2023-10-16 in shape (portal configurations also take
//     2024-10-28.acacia, since which a change of plan can be put off): current_period_start and
//     current_period_end are on the subscription, an invoice names its
//     subscription. Fields that Stripe's newer published schema requires are
//     there as well, so an answer satisfies both.
//   - Strict. A parameter Stripe does not know is a 400 parameter_unknown. A
//     parameter or route that Stripe knows and the simulator does not is a 501
//     that says so. Nothing is accepted and silently dropped, except the
//     presentation options of a hosted page, which are echoed where Stripe
//     echoes them.
//   - Safe to point anything at: it accepts one test key, refuses every live
//     key by name and talks to nobody but its webhook receivers.
//
// # Time
//
// Time is the injected clock and what Advance added to it. Whatever it has made
// due (a session's expiry, a renewal, the end of a draft's hour, a retry)
// happens at the next request, at Advance, or once a second while Run runs, never
// behind the caller's back: each thing at its own moment, in the order of these.
// Signatures of webhooks carry the time of the clock alone, because a receiver
// compares it with its own.
//
// # Driving it from a test
//
//	sim.Now()                        // the simulated time
//	sim.Advance(31 * 24 * time.Hour) // moves it and does what becomes due on the way
//	sim.Advance()                    // does what Config.Now has made due
//
//	sim.SetCard(customerID, stripesim.Card{Outcome: stripesim.Declines, Times: 2}) // then it succeeds again
//	sim.SetDunning(stripesim.Dunning{Retries: []time.Duration{72 * time.Hour}, End: "unpaid"})
//	sim.CompleteCheckout(sessionID)           // with the customer's card
//	sim.CompleteCheckoutWith(sessionID, card) // the card becomes the customer's, unless it declines
//	sim.CancelSubscription(subscriptionID, atPeriodEnd)
//	sim.Refund(id, amount)                    // of a charge, payment intent or invoice; 0 is what is left
//	sim.OpenDispute(id)                       // of the same
//	sim.CloseDispute(disputeID, won)
//
//	sim.Events()                   // all that happened, with payloads
//	sim.HoldDeliveries()           // from now on Run sends nothing
//	sim.Deliver(ctx, ids...)       // sends these events now, in this order, each once
//	sim.ReleaseDeliveries()        // Run goes on with what is pending
//	sim.WaitDelivered(ctx)         // until all events so far have settled
//	sim.SetPayloadVersion(version) // webhooks look as of 2024-09-30.acacia, 2025-03-31.basil, ...
//
//	sim.AddFault(stripesim.Fault{Kind: stripesim.ResetAfter, Route: "POST /v1/invoiceitems", Calls: 1})
//	sim.Faults()
//	sim.ClearFaults()
//
// With the same entropy and the same calls in the same order, ids are the same.
//
// # Driving it by HTTP
//
// The home page shows the time, moves it, and lists customers with their
// subscriptions and invoices. The same controls as above take JSON without a
// credential:
//
//	GET    /sim/time
//	POST   /sim/advance                  {"by": "36h"}, also "1d" and "1mo"
//	POST   /sim/customers/{id}/card      {"outcome": "declines", "times": 2}
//	POST   /sim/dunning                  {"retries": ["72h"], "end": "unpaid"}
//	POST   /sim/checkouts/{id}/complete  {"outcome": "declines"}, or nothing
//	POST   /sim/refunds                  {"of": "in_...", "amount": 500}
//	POST   /sim/disputes                 {"of": "ch_..."}
//	POST   /sim/disputes/{id}/close      {"won": true}
//	GET, POST, DELETE /sim/faults        {"kind": "reset_after", "route": "POST /v1/invoices*", "calls": 1, "delay": "2s"}
//	POST   /sim/deliveries/hold, /sim/deliveries/release
//	POST   /sim/events/{id}/deliver
//	POST   /sim/payload-version          {"version": "2025-03-31.basil"}
//
// # What it is not
//
//   - No money: no payment methods as objects, taxes, discounts, coupons, balance
//     transactions, credit notes or previews of an invoice. A customer has one
//     card, which succeeds unless told otherwise.
//   - Not every field. The old plan object is absent from items and lines, and
//     hosted invoice pages do not exist. invoice.updated is sent for changes by
//     the API and not with each step of an invoice's life.
//   - No sign-in. Whoever has a hosted page's URL may use it, and a portal
//     session never grows stale.
//   - One subscription item, one currency (usd), licensed prices by the month or
//     year, no change from one interval to another.
//   - Deliveries are stricter about order than Stripe: one at a time, to each
//     receiver in the order of emission; a failing one holds up those behind it to
//     the same receiver, and is retried for about two minutes rather than three
//     days. The draft hour does not wait for a webhook to be delivered.
//   - Subscription schedules are those that the portal makes for a change to a
//     lesser plan, of two phases. Stripe stacks a second change onto them, and
//     the simulator refuses it; before any other change in the portal the
//     scheduled one has to be cancelled.
//   - A subscription made by the API whose payment succeeds at once is active in
//     customer.subscription.created already, without an update after it.
//   - State lives in memory and, with a StateFile, in one file that is written
//     as a whole at every change: fine for development, not for load. Faults and
//     held deliveries are not in it.
//   - Nothing is ever forgotten but idempotency keys, though the API shows events
//     for 30 days only.
package stripesim
