package stripesim

import (
	"errors"
	"slices"
	"time"
)

// Dunning is what happens to a subscription whose renewal is not paid.
type Dunning struct {
	// Retries are the pauses before each further try.
	Retries []time.Duration
	// End is the subscription's status after the last try: canceled, unpaid or
	// past_due.
	End string
}

func defaultDunning() Dunning {
	const day = 24 * time.Hour
	return Dunning{Retries: []time.Duration{3 * day, 5 * day, 7 * day}, End: statusCanceled}
}

// SetDunning changes the account's setting, for failures from now on.
func (s *Sim) SetDunning(d Dunning) error {
	if !slices.Contains([]string{statusCanceled, statusUnpaid, statusPastDue}, d.End) {
		return errors.New("stripesim: dunning ends in canceled, unpaid or past_due")
	}
	return s.change(func() error {
		s.dunning = Dunning{Retries: slices.Clone(d.Retries), End: d.End}
		return nil
	})
}

// attempt is how a payment is tried.
type attempt struct {
	automatic bool // by Stripe's schedule, not because somebody asked
	onSession bool // with the customer there to confirm it
}

// collect tries to get an open invoice paid. Manual tries after the first do
// not count, so that they leave the schedule of the others alone.
func (s *Sim) collect(by cause, inv *invoice, how attempt) *decline {
	if how.automatic || inv.Attempts == 0 {
		inv.Attempts++
	}
	inv.Attempted = true
	pi, _ := s.intents.get(inv.PaymentIntent)
	failure := s.pay(by, pi, inv.Customer, how.onSession)
	inv.Charge = pi.Charge
	if failure == nil {
		inv.AmountPaid = pi.Amount
		s.markPaid(by, inv)
		return nil
	}
	exhausted := false
	if how.automatic {
		exhausted = !s.schedule(inv)
	}
	if pi.Status == intentNeedsAction {
		s.emit(by, "invoice.payment_action_required", renderInvoice(inv), nil)
	}
	s.emit(by, "invoice.payment_failed", renderInvoice(inv), nil)
	s.afterFailure(by, inv, exhausted)
	return failure
}

// schedule sets the time of the next try, if there is to be one. The first
// invoice of a subscription is not tried again: somebody is there to do it.
func (s *Sim) schedule(inv *invoice) bool {
	inv.NextAttempt = time.Time{}
	if inv.Reason == reasonCreate || inv.PendingUpdate || inv.Attempts > len(s.dunning.Retries) {
		return false
	}
	inv.NextAttempt = s.instant.Add(s.dunning.Retries[inv.Attempts-1])
	return true
}

// afterFailure is what an unpaid invoice does to its subscription.
func (s *Sim) afterFailure(by cause, inv *invoice, exhausted bool) {
	sub, ok := s.subscriptions.get(inv.Subscription)
	if !ok || inv.PendingUpdate {
		return
	}
	if sub.Status == statusActive || sub.Status == statusTrialing {
		s.setStatus(by, sub, statusPastDue)
	}
	if !exhausted || sub.Status != statusPastDue {
		return
	}
	if s.dunning.End == statusCanceled {
		sub.EndReason = "payment_failed"
		s.cancelNow(by, sub)
		return
	}
	s.setStatus(by, sub, s.dunning.End)
}

// afterPayment is what a paid invoice does to its subscription: the latest one
// decides.
func (s *Sim) afterPayment(by cause, inv *invoice) {
	sub, ok := s.subscriptions.get(inv.Subscription)
	if !ok || sub.over() {
		return
	}
	if sub.Pending != nil && sub.Pending.Invoice == inv.ID {
		s.applyPending(by, sub)
	}
	if sub.LatestInvoice != inv.ID {
		return
	}
	switch sub.Status {
	case statusIncomplete, statusPastDue, statusUnpaid:
		s.setStatus(by, sub, statusActive)
	}
}

// afterVoid ends what waited for the payment.
func (s *Sim) afterVoid(by cause, inv *invoice) {
	sub, ok := s.subscriptions.get(inv.Subscription)
	if !ok {
		return
	}
	if sub.Pending != nil && sub.Pending.Invoice == inv.ID {
		s.dropPending(by, sub)
	}
	if sub.Status == statusIncomplete && sub.LatestInvoice == inv.ID {
		s.setStatus(by, sub, statusIncompleteExpired)
	}
}
