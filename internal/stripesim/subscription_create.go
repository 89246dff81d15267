package stripesim

import "time"

const longestTrial = 730 // days

// createSubscription is a subscription made without Checkout, as in the dashboard.
func (s *Sim) createSubscription(c *call) (object, *apiError) {
	cust, _ := s.customers.get(s.customerParam(c))
	c.onlyOne("items")
	sub := &subscription{Price: s.recurringParam(c, "items[0][price]"), Quantity: c.integer("items[0][quantity]", 1, 1, 1_000_000)}
	sub.Description, sub.Metadata = c.str("description"), c.merge("metadata", nil)
	s.readTrial(c, sub, "")
	c.boolean("off_session")
	c.oneOf("proration_behavior", prorateNow, prorateLater, prorateNone)
	behavior := firstOf(c.oneOf("payment_behavior", allowIncomplete, defaultIncomplete, errorIfIncomplete), allowIncomplete)
	if stop, _ := c.boolean("cancel_at_period_end"); stop {
		sub.scheduleCancel(true, s.instant)
	}
	if c.err != nil {
		return nil, c.err
	}
	if behavior == defaultIncomplete && sub.TrialEnd.IsZero() && sub.amount() > 0 {
		s.subscribeLater(c.cause, cust, sub)
		return renderSubscription(sub), nil
	}
	if failure := s.refuseUnpaid(cust, sub, behavior); failure != nil {
		return nil, failure.cardError()
	}
	s.subscribe(c.cause, cust, sub, false)
	return renderSubscription(sub), nil
}

// refuseUnpaid tries the card first where an unpaid subscription is not wanted.
// Without a card there is none at all, unless a trial comes first.
func (s *Sim) refuseUnpaid(cust *customer, sub *subscription, behavior string) *decline {
	if !sub.TrialEnd.IsZero() || sub.amount() == 0 || behavior != errorIfIncomplete && cust.Card.Outcome != NoCard {
		return nil
	}
	return cust.Card.judge(false)
}

// subscribeLater starts a subscription whose first payment somebody is to confirm.
func (s *Sim) subscribeLater(by cause, cust *customer, sub *subscription) {
	s.begin(cust, sub)
	sub.Status = statusIncomplete
	s.subscriptions.add(sub)
	inv := s.bill(sub, reasonCreate, sub.PeriodStart)
	s.emit(by, "customer.subscription.created", renderSubscription(sub), nil)
	s.emit(by, "invoice.created", renderInvoice(inv), nil)
	s.finalize(by, inv)
}

// readTrial reads a trial, from within prefix if there is one.
func (s *Sim) readTrial(c *call, sub *subscription, prefix string) {
	name := func(param string) string {
		if prefix == "" {
			return param
		}
		return prefix + "[" + param + "]"
	}
	days := c.integer(name("trial_period_days"), 0, 1, longestTrial)
	start := addMonths(s.instant, 0)
	if days > 0 {
		sub.TrialEnd = start.Add(time.Duration(days) * 24 * time.Hour)
	}
	if c.has(name("trial_end")) {
		latest := start.AddDate(0, 0, longestTrial).Unix()
		sub.TrialEnd = time.Unix(c.integer(name("trial_end"), 0, start.Unix()+1, latest), 0).UTC()
	}
	behavior := name("trial_settings") + "[end_behavior][missing_payment_method]"
	sub.NoCardBehavior = c.oneOf(behavior, "cancel", "create_invoice", "pause")
}

// resumeSubscription starts a paused subscription again, with a period from now.
func (s *Sim) resumeSubscription(c *call) (object, *apiError) {
	sub, ok := s.subscriptions.get(c.id)
	switch {
	case !ok:
		return nil, notFound("subscription", c.id)
	case sub.Status != statusPaused:
		return nil, invalid("", "The subscription "+sub.ID+" is "+sub.Status+" and not paused.")
	}
	if c.oneOf("billing_cycle_anchor", "now", "unchanged") == "unchanged" {
		return nil, notSimulated("billing_cycle_anchor", "resuming with an unchanged anchor")
	}
	c.oneOf("proration_behavior", prorateNow, prorateLater, prorateNone)
	if c.err != nil {
		return nil, c.err
	}
	next := *sub
	next.Status, next.Anchor, next.Cycle = statusActive, addMonths(s.instant, 0), 0
	next.PeriodStart, next.PeriodEnd = next.Anchor, next.period(1)
	inv := s.bill(&next, reasonUpdate, next.PeriodStart)
	inv.AutoAdvance = true
	s.emit(c.cause, "invoice.created", renderInvoice(inv), nil)
	s.replaceSubscription(c.cause, sub, next)
	s.emit(c.cause, "customer.subscription.resumed", renderSubscription(sub), nil)
	s.settle(c.cause, inv, false)
	return renderSubscription(sub), nil
}
