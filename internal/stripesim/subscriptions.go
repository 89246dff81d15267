package stripesim

import (
	"net/http"
	"time"
)

const (
	statusActive   = "active"
	statusCanceled = "canceled"
)

type subscription struct {
	id          string
	customer    string
	created     time.Time
	metadata    map[string]string
	description string

	itemID   string
	price    *price
	quantity int64

	status            string
	cycle             int // whole periods since created
	periodStart       time.Time
	periodEnd         time.Time
	cancelAtPeriodEnd bool
	canceledAt        time.Time
	endedAt           time.Time
	comment           string
	feedback          string
	latestInvoice     string
}

// subscribe starts a subscription with its first, paid invoice and emits both
// stories in the order of a real checkout.
func (s *Sim) subscribe(cust *customer, sub *subscription, now time.Time) *invoice {
	sub.id, sub.itemID = s.ids.next("sub_1", 23), s.ids.next("si_", 14)
	sub.customer, sub.created, sub.status = cust.id, now, statusActive
	sub.periodStart, sub.periodEnd = addMonths(now, 0), addMonths(now, 1)
	cust.currency = currency
	s.subscriptions.add(sub.id, sub)
	inv := s.newInvoice(cust, sub, "subscription_create", now)
	s.emit(cause{}, "customer.subscription.created", renderSubscription(sub), nil)
	s.settleInvoice(inv)
	return inv
}

// endPeriod renews a subscription whose period is over, or ends it when that was
// asked for.
func (s *Sim) endPeriod(sub *subscription) {
	at := sub.periodEnd
	if sub.cancelAtPeriodEnd {
		sub.status, sub.endedAt = statusCanceled, at
		s.emit(cause{}, "customer.subscription.deleted", renderSubscription(sub), nil)
		return
	}
	before := renderSubscription(sub)
	sub.cycle++
	sub.periodStart, sub.periodEnd = at, addMonths(sub.created, sub.cycle+1)
	cust, _ := s.customers.get(sub.customer)
	inv := s.newInvoice(cust, sub, "subscription_cycle", at)
	s.emitUpdate(cause{}, "customer.subscription.updated", before, renderSubscription(sub))
	s.settleInvoice(inv)
}

func (s *Sim) getSubscription(c *call) (object, *apiError) {
	sub, ok := s.subscriptions.get(c.id)
	if !ok {
		return nil, notFound("subscription", c.id)
	}
	return renderSubscription(sub), nil
}

func (s *Sim) listSubscriptions(c *call) (object, *apiError) {
	cust, priceID := s.customerParam(c, "customer"), c.str("price")
	status := c.oneOf("status", statusActive, "all", statusCanceled, "ended", "incomplete", "incomplete_expired",
		"past_due", "paused", "trialing", "unpaid")
	return c.page(s.subscriptions.newest(func(sub *subscription) bool {
		return (cust == "" || sub.customer == cust) && (priceID == "" || sub.price.id == priceID) && sub.hasStatus(status)
	}, renderSubscription))
}

// hasStatus applies the list filter; without one Stripe leaves out the cancelled.
func (sub *subscription) hasStatus(filter string) bool {
	switch filter {
	case "":
		return sub.status != statusCanceled
	case "all":
		return true
	case "ended":
		return sub.status == statusCanceled
	}
	return sub.status == filter
}

func (s *Sim) updateSubscription(c *call) (object, *apiError) {
	sub, ok := s.subscriptions.get(c.id)
	if !ok {
		return nil, notFound("subscription", c.id)
	}
	next := *sub
	s.readUpdate(c, &next)
	if c.err != nil {
		return nil, c.err
	}
	s.replaceSubscription(c.cause, sub, next)
	return renderSubscription(sub), nil
}

// replaceSubscription is the one place where a living subscription changes.
func (s *Sim) replaceSubscription(by cause, sub *subscription, next subscription) {
	before := renderSubscription(sub)
	*sub = next
	s.emitUpdate(by, "customer.subscription.updated", before, renderSubscription(sub))
}

func (s *Sim) readUpdate(c *call, next *subscription) {
	c.oneOf("proration_behavior", "always_invoice", "create_prorations", "none")
	behavior := c.oneOf("payment_behavior", "allow_incomplete", "default_incomplete", "error_if_incomplete", "pending_if_incomplete")
	stop, given := c.boolean("cancel_at_period_end")
	if behavior == "pending_if_incomplete" && (given || c.has("metadata") || c.has("description")) {
		c.fail(invalid("payment_behavior", "With payment_behavior pending_if_incomplete only items and proration can be updated."))
	}
	if next.status == statusCanceled && (given || c.has("items")) {
		c.fail(invalid("", "A canceled subscription can only update its cancellation_details and metadata."))
	}
	if given && stop != next.cancelAtPeriodEnd {
		next.scheduleCancel(stop, c.now)
	}
	s.readItem(c, next)
	readCancellation(c, next)
	if c.has("description") {
		next.description = c.str("description")
	}
	next.metadata = c.merge("metadata", next.metadata)
}

func (s *Sim) readItem(c *call, next *subscription) {
	if !c.has("items") {
		return
	}
	c.onlyOne("items")
	switch id := c.str("items[0][id]"); id {
	case next.itemID:
	case "":
		// Stripe would add a second item here, which is how people get billed twice.
		c.fail(notSimulated("items[0][id]", "adding a subscription item: items[0][id] is missing"))
	default:
		c.fail(noSuch("subscription_item", id, "items[0][id]"))
	}
	if c.has("items[0][price]") {
		next.price = s.priceParam(c, "items[0][price]")
	}
	next.quantity = c.integer("items[0][quantity]", next.quantity, 1, 1_000_000)
}

func (s *Sim) priceParam(c *call, name string) *price {
	p, ok := s.prices.get(c.must(name))
	if !ok {
		c.fail(noSuch("price", c.str(name), name))
	}
	return p
}

func readCancellation(c *call, next *subscription) {
	if c.has("cancellation_details[comment]") {
		next.comment = c.str("cancellation_details[comment]")
	}
	if c.has("cancellation_details[feedback]") {
		next.feedback = c.oneOf("cancellation_details[feedback]", "", "customer_service", "low_quality", "missing_features",
			"other", "switched_service", "too_complex", "too_expensive", "unused")
	}
}

// scheduleCancel marks or unmarks the end of the period as the end of it all.
func (sub *subscription) scheduleCancel(stop bool, now time.Time) {
	sub.cancelAtPeriodEnd = stop
	sub.canceledAt = time.Time{}
	if stop {
		sub.canceledAt = now
	}
}

func (s *Sim) deleteSubscription(c *call) (object, *apiError) {
	sub, ok := s.subscriptions.get(c.id)
	if !ok || sub.status == statusCanceled { // to a cancellation, a cancelled one is gone
		return nil, notFound("subscription", c.id)
	}
	c.boolean("invoice_now")
	c.boolean("prorate")
	next := *sub
	readCancellation(c, &next)
	if c.err != nil {
		return nil, c.err
	}
	*sub = next
	s.cancelNow(c.cause, sub, c.now)
	return renderSubscription(sub), nil
}

func (s *Sim) cancelNow(by cause, sub *subscription, now time.Time) {
	sub.status, sub.cancelAtPeriodEnd = statusCanceled, false
	sub.canceledAt, sub.endedAt = now, now
	s.emit(by, "customer.subscription.deleted", renderSubscription(sub), nil)
}

// CancelSubscription cancels as the customer would in the portal: at the end of
// the period, or at once.
func (s *Sim) CancelSubscription(subID string, atPeriodEnd bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now().UTC()
	s.advance(now)
	sub, err := s.living(subID)
	if err != nil {
		return err
	}
	if !atPeriodEnd {
		s.cancelNow(cause{}, sub, now)
		return nil
	}
	s.setCancelAtPeriodEnd(sub, true, now)
	return nil
}

func (s *Sim) setCancelAtPeriodEnd(sub *subscription, stop bool, now time.Time) {
	if sub.cancelAtPeriodEnd == stop {
		return
	}
	next := *sub
	next.scheduleCancel(stop, now)
	s.replaceSubscription(cause{}, sub, next)
}

// living finds a subscription that a person could still change on a page.
func (s *Sim) living(id string) (*subscription, error) {
	sub, ok := s.subscriptions.get(id)
	switch {
	case !ok:
		return nil, &pageError{http.StatusNotFound, "There is no subscription " + id + "."}
	case sub.status == statusCanceled:
		return nil, &pageError{http.StatusConflict, "This subscription has ended."}
	}
	return sub, nil
}

func renderSubscription(sub *subscription) object {
	var cancelAt, reason any
	if sub.cancelAtPeriodEnd {
		cancelAt = sub.periodEnd.Unix()
	}
	if !sub.canceledAt.IsZero() {
		reason = "cancellation_requested"
	}
	return object{
		"id": sub.id, "object": "subscription", "application": nil, "application_fee_percent": nil,
		"automatic_tax": object{"enabled": false, "liability": nil}, "billing_cycle_anchor": sub.created.Unix(),
		"billing_mode": object{"type": "classic"}, "billing_schedules": []any{}, "billing_thresholds": nil,
		"cancel_at": cancelAt, "cancel_at_period_end": sub.cancelAtPeriodEnd, "canceled_at": unixOrNull(sub.canceledAt),
		"cancellation_details": object{"comment": orNull(sub.comment), "feedback": orNull(sub.feedback), "reason": reason},
		"collection_method":    "charge_automatically", "created": sub.created.Unix(), "currency": currency,
		"current_period_end": sub.periodEnd.Unix(), "current_period_start": sub.periodStart.Unix(),
		"customer": sub.customer, "days_until_due": nil, "default_payment_method": nil, "default_source": nil,
		"default_tax_rates": []any{}, "description": orNull(sub.description), "discount": nil, "discounts": []any{},
		"ended_at": unixOrNull(sub.endedAt), "invoice_settings": object{"issuer": object{"type": "self"}},
		"items":          listOf("/v1/subscription_items?subscription="+sub.id, renderItem(sub)),
		"latest_invoice": sub.latestInvoice, "livemode": false, "metadata": renderMetadata(sub.metadata),
		"next_pending_invoice_item_invoice": nil, "on_behalf_of": nil, "pause_collection": nil,
		"payment_settings": object{
			"payment_method_options": nil, "payment_method_types": nil, "save_default_payment_method": "off",
		},
		"pending_invoice_item_interval": nil, "pending_setup_intent": nil, "pending_update": nil, "schedule": nil,
		"start_date": sub.created.Unix(), "status": sub.status, "test_clock": nil, "transfer_data": nil,
		"trial_end": nil, "trial_settings": object{"end_behavior": object{"missing_payment_method": "create_invoice"}},
		"trial_start": nil,
	}
}

func renderItem(sub *subscription) object {
	return object{
		"id": sub.itemID, "object": "subscription_item", "billing_thresholds": nil, "created": sub.created.Unix(),
		"current_period_end": sub.periodEnd.Unix(), "current_period_start": sub.periodStart.Unix(), "discounts": []any{},
		"metadata": object{}, "price": renderPrice(sub.price), "quantity": sub.quantity, "subscription": sub.id,
		"tax_rates": []any{},
	}
}
