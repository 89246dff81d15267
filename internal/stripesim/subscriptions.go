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
	ID          string
	Customer    string
	Created     time.Time
	Metadata    map[string]string
	Description string

	ItemID   string
	Price    *price
	Quantity int64

	Status            string
	Cycle             int // whole periods since created, from which addMonths counts
	PeriodStart       time.Time
	PeriodEnd         time.Time
	CancelAtPeriodEnd bool
	CanceledAt        time.Time // when the end was asked for
	EndedAt           time.Time // when it came
	Comment           string
	Feedback          string
	LatestInvoice     string
}

func (sub *subscription) key() string { return sub.ID }

// subscribe starts a subscription with its first, paid invoice and emits both
// stories in the order of a real checkout.
func (s *Sim) subscribe(cust *customer, sub *subscription, now time.Time) *invoice {
	sub.ID, sub.ItemID = s.ids.next("sub_1", 23), s.ids.next("si_", 14)
	sub.Customer, sub.Created, sub.Status = cust.ID, now, statusActive
	sub.PeriodStart, sub.PeriodEnd = addMonths(now, 0), addMonths(now, 1)
	cust.Currency = currency
	s.subscriptions.add(sub)
	inv := s.newInvoice(cust, sub, "subscription_create", now)
	s.emit(cause{}, "customer.subscription.created", renderSubscription(sub), nil)
	s.settleInvoice(inv)
	return inv
}

// endPeriod renews a subscription whose period is over, or ends it when that was
// asked for.
func (s *Sim) endPeriod(sub *subscription) {
	at := sub.PeriodEnd
	if sub.CancelAtPeriodEnd {
		sub.Status, sub.EndedAt = statusCanceled, at
		s.emit(cause{}, "customer.subscription.deleted", renderSubscription(sub), nil)
		return
	}
	before := renderSubscription(sub)
	sub.Cycle++
	sub.PeriodStart, sub.PeriodEnd = at, addMonths(sub.Created, sub.Cycle+1)
	cust, _ := s.customers.get(sub.Customer)
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
	cust, priceID := s.customerParam(c), c.str("price")
	status := c.oneOf("status", statusActive, "all", statusCanceled, "ended", "incomplete", "incomplete_expired",
		"past_due", "paused", "trialing", "unpaid")
	return c.page(s.subscriptions.newest(func(sub *subscription) bool {
		return (cust == "" || sub.Customer == cust) && (priceID == "" || sub.Price.ID == priceID) && sub.hasStatus(status)
	}, renderSubscription))
}

// hasStatus applies the list filter; without one Stripe leaves out the cancelled.
func (sub *subscription) hasStatus(filter string) bool {
	switch filter {
	case "":
		return sub.Status != statusCanceled
	case "all":
		return true
	case "ended":
		return sub.Status == statusCanceled
	}
	return sub.Status == filter
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
	// A pending update waits for its payment, and Stripe lets only items and
	// proration wait.
	behavior := c.oneOf("payment_behavior", "allow_incomplete", "default_incomplete", "error_if_incomplete", "pending_if_incomplete")
	stop, given := c.boolean("cancel_at_period_end")
	if behavior == "pending_if_incomplete" && (given || c.has("metadata") || c.has("description")) {
		c.fail(invalid("payment_behavior", "With payment_behavior pending_if_incomplete only items and proration can be updated."))
	}
	if next.Status == statusCanceled && (given || c.has("items")) {
		c.fail(invalid("", "A canceled subscription can only update its cancellation_details and metadata."))
	}
	if given && stop != next.CancelAtPeriodEnd {
		next.scheduleCancel(stop, c.now)
	}
	s.readItem(c, next)
	readCancellation(c, next)
	if c.has("description") {
		next.Description = c.str("description")
	}
	next.Metadata = c.merge("metadata", next.Metadata)
}

func (s *Sim) readItem(c *call, next *subscription) {
	if !c.has("items") {
		return
	}
	c.onlyOne("items")
	switch id := c.str("items[0][id]"); id {
	case next.ItemID:
	case "":
		// Stripe would add a second item here, which is how people get billed twice.
		c.fail(notSimulated("items[0][id]", "adding a subscription item: items[0][id] is missing"))
	default:
		c.fail(noSuch("subscription_item", id, "items[0][id]"))
	}
	if c.has("items[0][price]") {
		next.Price = s.priceParam(c, "items[0][price]")
	}
	next.Quantity = c.integer("items[0][quantity]", next.Quantity, 1, 1_000_000)
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
		next.Comment = c.str("cancellation_details[comment]")
	}
	if c.has("cancellation_details[feedback]") {
		next.Feedback = c.oneOf("cancellation_details[feedback]", "", "customer_service", "low_quality", "missing_features",
			"other", "switched_service", "too_complex", "too_expensive", "unused")
	}
}

// scheduleCancel marks or unmarks the end of the period as the end of it all.
func (sub *subscription) scheduleCancel(stop bool, now time.Time) {
	sub.CancelAtPeriodEnd = stop
	sub.CanceledAt = time.Time{}
	if stop {
		sub.CanceledAt = now
	}
}

func (s *Sim) deleteSubscription(c *call) (object, *apiError) {
	sub, ok := s.subscriptions.get(c.id)
	if !ok || sub.Status == statusCanceled { // to a cancellation, a cancelled one is gone
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

// cancelNow ends a subscription before its period does. It is then no longer
// ending, it has ended, and there is no customer.subscription.updated.
func (s *Sim) cancelNow(by cause, sub *subscription, now time.Time) {
	sub.Status, sub.CancelAtPeriodEnd = statusCanceled, false
	sub.CanceledAt, sub.EndedAt = now, now
	s.emit(by, "customer.subscription.deleted", renderSubscription(sub), nil)
}

// CancelSubscription cancels as the customer would in the portal: at the end of
// the period, or at once.
func (s *Sim) CancelSubscription(subID string, atPeriodEnd bool) error {
	return s.change(func(now time.Time) error {
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
	})
}

func (s *Sim) setCancelAtPeriodEnd(sub *subscription, stop bool, now time.Time) {
	if sub.CancelAtPeriodEnd == stop {
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
	case sub.Status == statusCanceled:
		return nil, &pageError{http.StatusConflict, "This subscription has ended."}
	}
	return sub, nil
}

func renderSubscription(sub *subscription) object {
	var cancelAt, reason any
	if sub.CancelAtPeriodEnd {
		cancelAt = sub.PeriodEnd.Unix()
	}
	if !sub.CanceledAt.IsZero() {
		reason = "cancellation_requested"
	}
	return object{
		"id": sub.ID, "object": "subscription", "application": nil, "application_fee_percent": nil,
		"automatic_tax": object{"enabled": false, "liability": nil}, "billing_cycle_anchor": sub.Created.Unix(),
		"billing_mode": object{"type": "classic"}, "billing_schedules": []any{}, "billing_thresholds": nil,
		"cancel_at": cancelAt, "cancel_at_period_end": sub.CancelAtPeriodEnd, "canceled_at": unixOrNull(sub.CanceledAt),
		"cancellation_details": object{"comment": orNull(sub.Comment), "feedback": orNull(sub.Feedback), "reason": reason},
		"collection_method":    "charge_automatically", "created": sub.Created.Unix(), "currency": currency,
		"current_period_end": sub.PeriodEnd.Unix(), "current_period_start": sub.PeriodStart.Unix(),
		"customer": sub.Customer, "days_until_due": nil, "default_payment_method": nil, "default_source": nil,
		"default_tax_rates": []any{}, "description": orNull(sub.Description), "discount": nil, "discounts": []any{},
		"ended_at": unixOrNull(sub.EndedAt), "invoice_settings": object{"issuer": object{"type": "self"}},
		"items":          listOf("/v1/subscription_items?subscription="+sub.ID, renderItem(sub)),
		"latest_invoice": sub.LatestInvoice, "livemode": false, "metadata": renderMetadata(sub.Metadata),
		"next_pending_invoice_item_invoice": nil, "on_behalf_of": nil, "pause_collection": nil,
		"payment_settings": object{
			"payment_method_options": nil, "payment_method_types": nil, "save_default_payment_method": "off",
		},
		"pending_invoice_item_interval": nil, "pending_setup_intent": nil, "pending_update": nil, "schedule": nil,
		"start_date": sub.Created.Unix(), "status": sub.Status, "test_clock": nil, "transfer_data": nil,
		"trial_end": nil, "trial_settings": object{"end_behavior": object{"missing_payment_method": "create_invoice"}},
		"trial_start": nil,
	}
}

func renderItem(sub *subscription) object {
	return object{
		"id": sub.ItemID, "object": "subscription_item", "billing_thresholds": nil, "created": sub.Created.Unix(),
		"current_period_end": sub.PeriodEnd.Unix(), "current_period_start": sub.PeriodStart.Unix(), "discounts": []any{},
		"metadata": object{}, "price": renderPrice(sub.Price), "quantity": sub.Quantity, "subscription": sub.ID,
		"tax_rates": []any{},
	}
}
