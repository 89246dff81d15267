package stripesim

import (
	"net/http"
	"slices"
	"time"
)

const (
	statusActive            = "active"
	statusCanceled          = "canceled"
	statusIncomplete        = "incomplete"
	statusIncompleteExpired = "incomplete_expired"
	statusPastDue           = "past_due"
	statusPaused            = "paused"
	statusTrialing          = "trialing"
	statusUnpaid            = "unpaid"
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
	Anchor            time.Time // from which periods are counted
	Cycle             int       // whole periods since Anchor; -1 in a trial, which ends there
	PeriodStart       time.Time
	PeriodEnd         time.Time
	TrialStart        time.Time
	TrialEnd          time.Time
	TrialWarned       bool
	NoCardBehavior    string // at the end of a trial
	Pause             string // what becomes of invoices while collection is paused
	ResumesAt         time.Time
	Pending           *pendingUpdate
	Schedule          string // which manages it
	CancelAtPeriodEnd bool
	CanceledAt        time.Time // when the end was asked for
	EndedAt           time.Time // when it came
	EndReason         string
	Comment           string
	Feedback          string
	LatestInvoice     string
}

// pendingUpdate is a change of plan that waits for its payment.
type pendingUpdate struct {
	Price     *price
	Quantity  int64
	Invoice   string
	ExpiresAt time.Time
}

func (sub *subscription) key() string { return sub.ID }

// over says whether nothing brings the subscription back.
func (sub *subscription) over() bool {
	return sub.Status == statusCanceled || sub.Status == statusIncompleteExpired
}

func (sub *subscription) amount() int64 { return sub.Price.UnitAmount * sub.Quantity }

func (s *Sim) getSubscription(c *call) (object, *apiError) {
	sub, ok := s.subscriptions.get(c.id)
	if !ok {
		return nil, notFound("subscription", c.id)
	}
	return renderSubscription(sub), nil
}

func (s *Sim) listSubscriptions(c *call) (object, *apiError) {
	cust, priceID, created := s.customerFilter(c), c.str("price"), c.created()
	status := c.oneOf("status", statusActive, "all", statusCanceled, "ended", statusIncomplete, statusIncompleteExpired,
		statusPastDue, statusPaused, statusTrialing, statusUnpaid)
	return c.page(s.subscriptions.newest(func(sub *subscription) bool {
		return (cust == "" || sub.Customer == cust) && (priceID == "" || sub.Price.ID == priceID) &&
			sub.hasStatus(status) && created.has(sub.Created)
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
		return sub.over()
	}
	return sub.Status == filter
}

func (s *Sim) deleteSubscription(c *call) (object, *apiError) {
	sub, ok := s.subscriptions.get(c.id)
	if !ok || sub.over() { // to a cancellation, a cancelled one is gone
		return nil, notFound("subscription", c.id)
	}
	invoiceNow, _ := c.boolean("invoice_now")
	prorate, _ := c.boolean("prorate")
	next := *sub
	readCancellation(c, &next)
	if c.err != nil {
		return nil, c.err
	}
	if prorate {
		s.creditRest(c.cause, sub, s.instant)
	}
	*sub = next
	sub.EndReason = "cancellation_requested"
	s.cancelNow(c.cause, sub)
	if invoiceNow && s.hasPending(sub) {
		inv := s.draftFor(sub, reasonUpdate)
		s.emit(c.cause, "invoice.created", renderInvoice(inv), nil)
		s.settle(c.cause, inv, false)
	}
	return renderSubscription(sub), nil
}

func (s *Sim) hasPending(sub *subscription) bool {
	return slices.ContainsFunc(s.items.items, func(it *invoiceItem) bool {
		return it.Invoice == "" && it.Line.Subscription == sub.ID
	})
}

// cancelNow ends a subscription before its period does. It is then no longer
// ending, it has ended, and there is no customer.subscription.updated. What is
// unpaid stays open, and nobody tries to collect it any more.
func (s *Sim) cancelNow(by cause, sub *subscription) {
	sub.Status, sub.CancelAtPeriodEnd, sub.Pending = statusCanceled, false, nil
	sub.CanceledAt, sub.EndedAt = s.instant, s.instant
	s.stopCollecting(sub)
	s.cancelSchedule(by, sub)
	s.emit(by, "customer.subscription.deleted", renderSubscription(sub), nil)
}

func (s *Sim) stopCollecting(sub *subscription) {
	for _, inv := range s.invoices.items {
		if inv.Subscription == sub.ID && inv.AutoAdvance {
			inv.AutoAdvance, inv.NextAttempt = false, time.Time{}
		}
	}
}

// CancelSubscription cancels as the customer would in the portal: at the end of
// the period, or at once. A change that is scheduled is taken back for that.
func (s *Sim) CancelSubscription(subID string, atPeriodEnd bool) error {
	return s.change(func() error {
		sub, err := s.living(subID)
		if err != nil {
			return err
		}
		if atPeriodEnd {
			s.unschedule(cause{}, sub)
		}
		s.cancelByHand(sub, atPeriodEnd)
		return nil
	})
}

func (s *Sim) cancelByHand(sub *subscription, atPeriodEnd bool) {
	if atPeriodEnd {
		s.setCancelAtPeriodEnd(sub, true)
		return
	}
	sub.EndReason = "cancellation_requested"
	s.cancelNow(cause{}, sub)
}

func (s *Sim) setCancelAtPeriodEnd(sub *subscription, stop bool) {
	if sub.CancelAtPeriodEnd == stop {
		return
	}
	next := *sub
	next.scheduleCancel(stop, s.instant)
	s.replaceSubscription(cause{}, sub, next)
}

// scheduleCancel marks or unmarks the end of the period as the end of it all.
func (sub *subscription) scheduleCancel(stop bool, now time.Time) {
	sub.CancelAtPeriodEnd = stop
	sub.CanceledAt, sub.EndReason = time.Time{}, ""
	if stop {
		sub.CanceledAt, sub.EndReason = now, "cancellation_requested"
	}
}

// living finds a subscription that a person could still change on a page.
func (s *Sim) living(id string) (*subscription, error) {
	sub, ok := s.subscriptions.get(id)
	switch {
	case !ok:
		return nil, &pageError{http.StatusNotFound, "There is no subscription " + id + "."}
	case sub.over():
		return nil, &pageError{http.StatusConflict, "This subscription has ended."}
	}
	return sub, nil
}
