package stripesim

import "time"

const (
	prorateNow   = "always_invoice"
	prorateLater = "create_prorations"
	prorateNone  = "none"

	allowIncomplete   = "allow_incomplete"
	defaultIncomplete = "default_incomplete"
	errorIfIncomplete = "error_if_incomplete"
	pendIfIncomplete  = "pending_if_incomplete"
)

// planChange is how a subscription moves to another price or quantity.
type planChange struct {
	proration string
	payment   string
	at        time.Time // from when it is prorated
}

func (s *Sim) updateSubscription(c *call) (object, *apiError) {
	sub, ok := s.subscriptions.get(c.id)
	if !ok {
		return nil, notFound("subscription", c.id)
	}
	next := *sub
	how := s.readUpdate(c, sub, &next)
	if c.err != nil {
		return nil, c.err
	}
	if failure := s.changeSubscription(c.cause, sub, next, how); failure != nil {
		return nil, failure.cardError()
	}
	return renderSubscription(sub), nil
}

func (s *Sim) readUpdate(c *call, sub, next *subscription) planChange {
	how := planChange{proration: prorateLater, payment: allowIncomplete}
	how.proration = firstOf(c.oneOf("proration_behavior", prorateNow, prorateLater, prorateNone), how.proration)
	how.payment = firstOf(c.oneOf("payment_behavior", allowIncomplete, defaultIncomplete, errorIfIncomplete, pendIfIncomplete), how.payment)
	from, to := sub.PeriodStart.Unix(), sub.PeriodEnd.Unix()
	how.at = time.Unix(c.integer("proration_date", min(s.instant.Unix(), to), from, to), 0).UTC()
	stop, given := c.boolean("cancel_at_period_end")
	// A pending update waits for its payment, and Stripe lets only items and
	// proration wait.
	if how.payment == pendIfIncomplete && (given || c.has("metadata") || c.has("description")) {
		c.fail(invalid("payment_behavior", "With payment_behavior pending_if_incomplete only items and proration can be updated."))
	}
	if next.over() && (given || c.has("items") || c.has("pause_collection")) {
		c.fail(invalid("", "A canceled subscription can only update its cancellation_details and metadata."))
	}
	if given && sub.Schedule != "" {
		c.fail(managed(sub.Schedule))
	}
	if sub.Schedule != "" && c.has("items") {
		c.fail(notSimulated("items", "a change of a subscription that a schedule manages"))
	}
	if given && stop != next.CancelAtPeriodEnd {
		next.scheduleCancel(stop, s.instant)
	}
	s.readItem(c, next)
	readPause(c, next)
	readCancellation(c, next)
	if c.has("description") {
		next.Description = c.str("description")
	}
	next.Metadata = c.merge("metadata", next.Metadata)
	return how
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
		months := next.Price.Months
		next.Price = s.recurringParam(c, "items[0][price]")
		if c.err == nil && next.Price.Months != months {
			c.fail(notSimulated("items[0][price]", "changing to another billing interval"))
		}
	}
	next.Quantity = c.integer("items[0][quantity]", next.Quantity, 1, 1_000_000)
}

func readPause(c *call, next *subscription) {
	if _, given := c.values["pause_collection"]; given { // emptied
		next.Pause, next.ResumesAt = "", time.Time{}
		return
	}
	if !c.has("pause_collection") {
		return
	}
	c.must("pause_collection[behavior]")
	next.Pause = c.oneOf("pause_collection[behavior]", "keep_as_draft", "mark_uncollectible", "void")
	next.ResumesAt = c.instant("pause_collection[resumes_at]")
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

// changeSubscription moves a subscription to its next state and prorates that, if
// the plan is what changes.
func (s *Sim) changeSubscription(by cause, sub *subscription, next subscription, how planChange) *decline {
	samePlan := next.Price == sub.Price && next.Quantity == sub.Quantity
	if samePlan || how.proration == prorateNone || sub.Status == statusTrialing || sub.Status == statusIncomplete {
		s.replaceSubscription(by, sub, next)
		return nil
	}
	lines := prorations(sub, &next, how.at)
	if how.proration == prorateLater {
		s.addPending(by, sub, lines)
		s.replaceSubscription(by, sub, next)
		return nil
	}
	return s.changeNow(by, sub, next, how, lines)
}

// changeNow invoices a change of plan at once. What becomes of the change when
// that is not paid is the caller's choice.
func (s *Sim) changeNow(by cause, sub *subscription, next subscription, how planChange, lines []line) *decline {
	cust, _ := s.customers.get(sub.Customer)
	due := cust.Balance
	for _, l := range lines {
		due += l.Amount
	}
	wait := false
	if due > 0 && (how.payment == errorIfIncomplete || how.payment == pendIfIncomplete) {
		card := cust.Card
		failure := card.judge(false)
		if failure != nil && how.payment == errorIfIncomplete {
			cust.Card = card // this was its attempt
			return failure
		}
		wait = failure != nil
	}
	s.addPending(by, sub, lines)
	inv := s.draftFor(&next, reasonUpdate)
	inv.AutoAdvance, inv.PendingUpdate = true, wait
	s.emit(by, "invoice.created", renderInvoice(inv), nil)
	if wait {
		pending := &pendingUpdate{Price: next.Price, Quantity: next.Quantity, Invoice: inv.ID, ExpiresAt: s.instant.Add(incompleteTime)}
		next.Price, next.Quantity, next.Pending = sub.Price, sub.Quantity, pending
	}
	s.replaceSubscription(by, sub, next)
	if how.payment == defaultIncomplete {
		s.finalize(by, inv)
		return nil
	}
	s.settle(by, inv, false) // a failure shows in the subscription
	return nil
}

// applyPending makes the change whose payment has come.
func (s *Sim) applyPending(by cause, sub *subscription) {
	next := *sub
	next.Price, next.Quantity, next.Pending = sub.Pending.Price, sub.Pending.Quantity, nil
	s.replaceSubscription(by, sub, next)
	s.emit(by, "customer.subscription.pending_update_applied", renderSubscription(sub), nil)
}

func (s *Sim) dropPending(by cause, sub *subscription) {
	next := *sub
	next.Pending = nil
	s.replaceSubscription(by, sub, next)
	s.emit(by, "customer.subscription.pending_update_expired", renderSubscription(sub), nil)
}
