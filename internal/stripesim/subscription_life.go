package stripesim

import "time"

const (
	// incompleteTime is how long Stripe waits for a first payment, and for that of
	// a pending update.
	incompleteTime = 23 * time.Hour
	// trialWarning is how long before the end of a trial Stripe tells of it.
	trialWarning = 3 * 24 * time.Hour
)

// subscribe starts a subscription with its first invoice and emits both stories
// in the order of a real checkout. Until that is paid on the page, and if the
// payment fails, it is incomplete.
func (s *Sim) subscribe(by cause, cust *customer, sub *subscription, onSession bool) *invoice {
	s.begin(cust, sub)
	s.subscriptions.add(sub)
	inv := s.bill(sub, reasonCreate, sub.PeriodStart)
	inv.AutoAdvance = true
	failure := s.foresee(cust, inv, onSession)
	if failure != nil || onSession && inv.amountDue() > 0 {
		sub.Status = statusIncomplete
	}
	s.emit(by, "customer.subscription.created", renderSubscription(sub), nil)
	s.emit(by, "invoice.created", renderInvoice(inv), nil)
	s.settle(by, inv, onSession)
	return inv
}

// begin gives a subscription its ids and its first period.
func (s *Sim) begin(cust *customer, sub *subscription) {
	sub.ID, sub.ItemID = s.ids.next("sub_1", 23), s.ids.next("si_", 14)
	sub.Customer, sub.Created, sub.Status = cust.ID, s.instant, statusActive
	sub.Anchor = addMonths(s.instant, 0) // whole seconds
	sub.PeriodStart, sub.PeriodEnd = sub.Anchor, sub.period(1)
	if !sub.TrialEnd.IsZero() {
		sub.Status, sub.TrialStart = statusTrialing, sub.Anchor
		sub.Anchor, sub.Cycle, sub.PeriodEnd = sub.TrialEnd, -1, sub.TrialEnd
	}
	cust.Currency = currency
}

// period is when the n-th period since the anchor begins.
func (sub *subscription) period(n int) time.Time { return addMonths(sub.Anchor, n*sub.Price.Months) }

// foresee says whether the first payment is going to fail, because the events
// that come before it show that already. It uses nothing up.
func (s *Sim) foresee(cust *customer, inv *invoice, onSession bool) *decline {
	if inv.amountDue() == 0 {
		return nil
	}
	card := cust.Card
	return card.judge(onSession)
}

func (sub *subscription) due() time.Time {
	switch sub.Status {
	case statusCanceled, statusIncompleteExpired, statusPaused:
		return time.Time{}
	case statusIncomplete:
		return sub.Created.Add(incompleteTime)
	}
	at := sub.PeriodEnd
	if sub.Status == statusTrialing && !sub.TrialWarned {
		at = sub.TrialEnd.Add(-trialWarning)
	}
	if sub.Pending != nil && sub.Pending.ExpiresAt.Before(at) {
		at = sub.Pending.ExpiresAt
	}
	if !sub.ResumesAt.IsZero() && !sub.ResumesAt.After(at) {
		at = sub.ResumesAt
	}
	return at
}

// advanceSubscription does what a subscription's time has come for.
func (s *Sim) advanceSubscription(sub *subscription) {
	switch at := sub.due(); {
	case sub.Status == statusIncomplete:
		s.voidLatest(sub)
	case !sub.ResumesAt.IsZero() && at.Equal(sub.ResumesAt):
		next := *sub
		next.Pause, next.ResumesAt = "", time.Time{}
		s.replaceSubscription(cause{}, sub, next)
	case sub.Pending != nil && at.Equal(sub.Pending.ExpiresAt):
		inv, _ := s.invoices.get(sub.Pending.Invoice)
		s.void(cause{}, inv)
	case sub.Status == statusTrialing && !sub.TrialWarned:
		sub.TrialWarned = true
		s.emit(cause{}, "customer.subscription.trial_will_end", renderSubscription(sub), nil)
	default:
		s.endPeriod(sub)
	}
}

// voidLatest voids the invoice that a subscription waited for, which ends it.
func (s *Sim) voidLatest(sub *subscription) {
	if inv, ok := s.invoices.get(sub.LatestInvoice); ok && inv.Status == invoiceOpen {
		s.void(cause{}, inv)
		return
	}
	s.setStatus(cause{}, sub, statusIncompleteExpired)
}

// endPeriod renews a subscription whose period is over, or ends it when that was
// asked for.
func (s *Sim) endPeriod(sub *subscription) {
	cust, _ := s.customers.get(sub.Customer)
	trial := sub.Status == statusTrialing
	noCard := trial && cust.Card.Outcome == NoCard
	switch {
	case sub.CancelAtPeriodEnd:
		sub.Status, sub.EndedAt = statusCanceled, s.instant
		s.stopCollecting(sub)
		s.cancelSchedule(cause{}, sub)
		s.emit(cause{}, "customer.subscription.deleted", renderSubscription(sub), nil)
	case noCard && sub.NoCardBehavior == "cancel":
		s.cancelNow(cause{}, sub)
	case noCard && sub.NoCardBehavior == "pause":
		s.setStatus(cause{}, sub, statusPaused)
		s.emit(cause{}, "customer.subscription.paused", renderSubscription(sub), nil)
	default:
		s.renew(sub)
	}
}

func (s *Sim) renew(sub *subscription) {
	next, behind := *sub, sub.PeriodStart
	if next.Status == statusTrialing {
		next.Status = statusActive
	}
	emit := s.takeSchedule(&next)
	next.Cycle++
	next.PeriodStart, next.PeriodEnd = next.period(next.Cycle), next.period(next.Cycle+1)
	inv := s.bill(&next, reasonCycle, behind)
	inv.AutoAdvance, inv.FinalizesAt = true, s.instant.Add(draftTime)
	switch {
	case next.Pause == "keep_as_draft", next.Status == statusUnpaid:
		inv.AutoAdvance = false
	case next.Pause == "void":
		inv.Verdict = invoiceVoid
	case next.Pause == "mark_uncollectible":
		inv.Verdict = invoiceUncollectible
	}
	s.emit(cause{}, "invoice.created", renderInvoice(inv), nil)
	s.replaceSubscription(cause{}, sub, next)
	emit()
}

func (s *Sim) setStatus(by cause, sub *subscription, status string) {
	next := *sub
	next.Status = status
	if status == statusIncompleteExpired {
		next.EndedAt = s.instant
	}
	s.replaceSubscription(by, sub, next)
}

// replaceSubscription is the one place where a living subscription changes.
func (s *Sim) replaceSubscription(by cause, sub *subscription, next subscription) {
	before := renderSubscription(sub)
	*sub = next
	s.emitUpdate(by, "customer.subscription.updated", before, renderSubscription(sub))
}
