package stripesim

import (
	"net/http"
	"time"
)

const (
	scheduleActive   = "active"
	scheduleCanceled = "canceled"
	scheduleReleased = "released"
)

// schedule is a change of plan that waits for the end of the period. The portal
// makes it, and it is over when the change has been made.
type schedule struct {
	ID           string
	Customer     string
	Subscription string
	Created      time.Time
	Status       string
	ReleasedAt   time.Time
	CanceledAt   time.Time
	Phases       []phase // the current one, and the one to come
}

// phase is what a subscription is for a while.
type phase struct {
	Price    *price
	Quantity int64
	Start    time.Time
	End      time.Time
}

func (sc *schedule) key() string { return sc.ID }

// next is the phase to come.
func (sc *schedule) next() phase { return sc.Phases[len(sc.Phases)-1] }

// scheduleOf is the schedule that manages a subscription, nil if none does.
func (s *Sim) scheduleOf(sub *subscription) *schedule {
	sc := s.schedules.byID[sub.Schedule]
	return sc
}

// scheduleChange puts a change of plan off to the end of the period. It costs
// nothing and prorates nothing.
func (s *Sim) scheduleChange(sub *subscription, to *price, quantity int64) {
	end := addMonths(sub.PeriodEnd, to.Months)
	sc := &schedule{
		ID: s.ids.next("sub_sched_1", 23), Customer: sub.Customer, Subscription: sub.ID, Created: s.instant, Status: scheduleActive,
		Phases: []phase{
			{Price: sub.Price, Quantity: sub.Quantity, Start: sub.PeriodStart, End: sub.PeriodEnd},
			{Price: to, Quantity: quantity, Start: sub.PeriodEnd, End: end},
		},
	}
	s.schedules.add(sc)
	next := *sub
	next.Schedule = sc.ID
	s.emit(cause{}, "subscription_schedule.created", renderSchedule(sc), nil)
	s.replaceSubscription(cause{}, sub, next)
}

// takeSchedule makes the change that a schedule holds for now, and releases the
// subscription. What is emitted comes after the subscription's own story.
func (s *Sim) takeSchedule(next *subscription) (emit func()) {
	sc := s.scheduleOf(next)
	if sc == nil {
		return func() {}
	}
	next.Price, next.Quantity = sc.next().Price, sc.next().Quantity
	next.Schedule = ""
	return func() { s.release(cause{}, sc) }
}

// unschedule takes a change back that was put off.
func (s *Sim) unschedule(by cause, sub *subscription) {
	sc := s.scheduleOf(sub)
	if sc == nil {
		return
	}
	next := *sub
	next.Schedule = ""
	s.release(by, sc)
	s.replaceSubscription(by, sub, next)
}

func (s *Sim) release(by cause, sc *schedule) {
	sc.Status, sc.ReleasedAt = scheduleReleased, s.instant
	s.emit(by, "subscription_schedule.released", renderSchedule(sc), nil)
}

// cancelSchedule ends the schedule of a subscription that has ended.
func (s *Sim) cancelSchedule(by cause, sub *subscription) {
	sc := s.scheduleOf(sub)
	if sc == nil {
		return
	}
	sub.Schedule = ""
	sc.Status, sc.CanceledAt = scheduleCanceled, s.instant
	s.emit(by, "subscription_schedule.canceled", renderSchedule(sc), nil)
}

// managed is what Stripe says to whom would change how a subscription ends that
// a schedule manages.
func managed(scheduleID string) *apiError {
	return invalid("cancel_at_period_end", "The subscription is managed by the subscription schedule `"+scheduleID+
		"`, and updating any cancelation behavior directly is not allowed. Please update the schedule instead.")
}

// free refuses what the portal does not offer while a change is scheduled.
func free(sub *subscription) error {
	if sub.Schedule != "" {
		return &pageError{http.StatusConflict, "A change of this subscription is scheduled. Cancel the scheduled update first."}
	}
	return nil
}

func (s *Sim) getSchedule(c *call) (object, *apiError) {
	sc, ok := s.schedules.get(c.id)
	if !ok {
		return nil, notFound("subscription_schedule", c.id)
	}
	return renderSchedule(sc), nil
}

func (s *Sim) listSchedules(c *call) (object, *apiError) {
	cust, created := s.customerFilter(c), c.created()
	return c.page(s.schedules.newest(func(sc *schedule) bool {
		return (cust == "" || sc.Customer == cust) && created.has(sc.Created)
	}, renderSchedule))
}

func (s *Sim) releaseSchedule(c *call) (object, *apiError) {
	sc, ok := s.schedules.get(c.id)
	switch {
	case !ok:
		return nil, notFound("subscription_schedule", c.id)
	case sc.Status != scheduleActive:
		return nil, invalid("", "You cannot release a subscription schedule that is currently in the `"+sc.Status+"` status.")
	}
	sub, _ := s.subscriptions.get(sc.Subscription)
	s.unschedule(c.cause, sub)
	return renderSchedule(sc), nil
}

func renderSchedule(sc *schedule) object {
	var subscription, released, current any = sc.Subscription, nil, nil
	if sc.Status == scheduleReleased {
		subscription, released = nil, sc.Subscription
	}
	if sc.Status == scheduleActive {
		current = object{"start_date": sc.Phases[0].Start.Unix(), "end_date": sc.Phases[0].End.Unix()}
	}
	phases := []object{}
	for _, p := range sc.Phases {
		phases = append(phases, renderPhase(p))
	}
	return object{
		"id": sc.ID, "object": "subscription_schedule", "application": nil, "billing_mode": object{"type": "classic"},
		"canceled_at": unixOrNull(sc.CanceledAt), "completed_at": nil, "created": sc.Created.Unix(), "current_phase": current,
		"customer": sc.Customer,
		"default_settings": object{
			"application_fee_percent": nil, "automatic_tax": object{"enabled": false, "liability": nil},
			"billing_cycle_anchor": "automatic", "billing_thresholds": nil, "collection_method": "charge_automatically",
			"default_payment_method": nil, "description": nil, "on_behalf_of": nil, "transfer_data": nil,
			"invoice_settings": object{"account_tax_ids": nil, "days_until_due": nil, "issuer": object{"type": "self"}},
		},
		"end_behavior": "release", "livemode": false, "metadata": object{}, "phases": phases,
		"released_at": unixOrNull(sc.ReleasedAt), "released_subscription": released, "status": sc.Status,
		"subscription": subscription, "test_clock": nil,
	}
}

func renderPhase(p phase) object {
	return object{
		"add_invoice_items": []any{}, "application_fee_percent": nil, "automatic_tax": object{"enabled": false, "liability": nil},
		"billing_cycle_anchor": nil, "billing_thresholds": nil, "collection_method": nil, "currency": currency,
		"default_payment_method": nil, "default_tax_rates": []any{}, "description": nil, "discounts": []any{},
		"end_date": p.End.Unix(), "invoice_settings": nil, "metadata": object{}, "on_behalf_of": nil,
		"items": []object{{
			"billing_thresholds": nil, "discounts": []any{}, "metadata": object{}, "price": p.Price.ID, "quantity": p.Quantity,
			"tax_rates": []any{},
		}},
		"proration_behavior": prorateNone, "start_date": p.Start.Unix(), "transfer_data": nil, "trial_end": nil,
	}
}
