// Package stripesim is a stateful simulator of the part of Stripe that
// Keymeter uses: customers, a price catalogue, Checkout in subscription mode,
// subscriptions, paid invoices, the customer portal and signed webhooks.
//
// It exists because a stateless mock cannot show the things that break in
// practice: that a checkout makes exactly one subscription, that webhooks come
// in an order and may come again, that a replayed request is answered from
// memory. It is written from Stripe's published behaviour and shares no code
// with Keymeter's Stripe adapter, so the two cannot share a mistake.
//
// What it is:
//
//   - API version 2023-10-16 in shape: current_period_start and
//     current_period_end are on the subscription, an invoice names its
//     subscription. Fields that Stripe's newer published schema requires are
//     there as well, so an answer satisfies both.
//   - Strict. A parameter Stripe does not know is a 400 parameter_unknown. A
//     parameter or route that Stripe knows and the simulator does not is a 501
//     that says so. Nothing is accepted and silently dropped, except the
//     presentation options of a hosted page, which are echoed where Stripe
//     echoes them.
//   - Safe to point anything at: it accepts one test key, refuses every live
//     key by name and talks to nobody but the configured webhook receiver.
//
// What it is not, besides small:
//
//   - No money: no payment methods, charges, payment intents, taxes, discounts,
//     coupons, trials, refunds or disputes. Every payment succeeds at once, so
//     incomplete, past_due and unpaid never happen.
//   - No proration. proration_behavior is checked and then has no effect; a plan
//     change makes no invoice before the next period.
//   - No draft hour. An invoice is created, finalized and paid in one instant,
//     also at renewal.
//   - Not every field. The old plan object is absent from items and lines, and
//     hosted invoice pages do not exist.
//   - No sign-in. Whoever has a hosted page's URL may use it, and a portal
//     session never grows stale.
//   - One subscription item, one currency (usd), monthly licensed prices.
//   - Deliveries are stricter about order than Stripe: one at a time, in the
//     order of emission, a failing delivery holds up those behind it, and it is
//     retried for about two minutes rather than three days.
//   - customer.subscription.created already says active. Stripe may send
//     incomplete first and an update a moment later.
//   - State lives in memory and, with a StateFile, in one file that is written
//     as a whole at every change: fine for development, not for load.
//   - Nothing is ever forgotten but idempotency keys. Stripe lists events for 30
//     days.
//
// # Driving it from a test
//
// This part is being built; the signatures are settled.
//
//	sim.Now()                        // simulated time: Config.Now and all that Advance added
//	sim.Advance(31 * 24 * time.Hour) // moves it and does, step by step, what becomes due on the way
//	sim.Advance()                    // does what Config.Now has made due, as before
//
//	sim.SetCard(customerID, stripesim.Card{Outcome: stripesim.Declines, Times: 2}) // error; then it succeeds again
//	sim.CompleteCheckout(sessionID)                 // error if the card declines
//	sim.CompleteCheckoutWith(sessionID, card)       // error; the card becomes the customer's
//	sim.Refund(chargeOrPaymentIntentID, amount)     // (refundID, error); amount 0 is what is left
//	sim.OpenDispute(chargeOrPaymentIntentID)        // (disputeID, error)
//	sim.CloseDispute(disputeID, won)                // error
//	sim.SetDunning(stripesim.Dunning{Retries: []time.Duration{72 * time.Hour}, End: "canceled"}) // or "unpaid", "past_due"
//
//	sim.HoldDeliveries()           // from now on Run sends nothing; Events() still lists everything
//	sim.Deliver(ctx, ids...)       // error; sends these events now, in this order, each once
//	sim.ReleaseDeliveries()        // Run goes on with what is pending
//	sim.SetPayloadVersion(version) // error; webhooks look as of 2024-09-30.acacia, 2025-03-31.basil, ...
//
//	sim.AddFault(stripesim.Fault{Kind: stripesim.ResetAfter, Route: "POST /v1/invoiceitems", Calls: 1}) // error
//	sim.ClearFaults()
//
// Outcomes of a card: Succeeds, Declines, RequiresAuthentication, NoCard. Kinds
// of fault: Delay, TooManyRequests, ServerError, Unavailable, ResetBefore,
// ResetAfter for requests; DuplicateWebhook, DropWebhook, DelayWebhook,
// ReorderWebhook for deliveries, whose Route is a pattern of event types.
//
// Time is the injected clock. Whatever the clock has made due (a session's
// expiry, a renewal, the end of a cancelled period) happens at the next request
// or once a second while Run runs, never behind the caller's back.
package stripesim
