package credits

import (
	"reflect"
	"slices"
	"time"

	"github.com/keymeter/keymeter/internal/plans"
)

// model is the ledger as its rules say it is, in memory and one step at a time: lists of what was given, burned, lost and
// billed, and the rest summed up from them. It shares types and the names of sources with the code and nothing else: no
// calendar, no prices, no order of lots, no SQL. What has to do with grants is in model_grants_test.go.
type model struct {
	accounts map[string]*modelAccount
	keys     map[string]string // key id to account id
	plans    map[plans.Tier]plans.Plan
	bridge   plans.Bridge
}

type modelAccount struct {
	tier     plans.Tier
	created  time.Time
	limit    *int64 // of overage, that the customer has set
	periods  []*modelPeriod
	grants   []modelGrant // in the order in which they were given
	burns    []modelBurn
	losses   []modelLoss
	overages []modelOverage
	events   map[string]modelEvent
	holds    []*modelHold
}

type modelPeriod struct {
	off        bool // no overage, whatever the plan
	source     string
	anchor     time.Time
	months     int
	start, end time.Time
	valid      time.Time // until then it holds what can be used
	tier       plans.Tier
	included   int64 // monthly credits of the best plan that gave its own here
	overage    int64 // that is billed already
	limit      *int64
	micros     int64
	used       map[plans.Category]int64
	requests   int64
}

type modelEvent struct {
	sent     Event
	credits  int64
	period   int
	settled  bool // it was a reservation
	reversed bool
	reversal bool
}

type modelHold struct {
	id, eventID string
	period      int
	credits     int64
	expires     time.Time
	ended       bool // it holds nothing any more
	final       bool // and nothing becomes of it
}

// modelStanding is what is known of an account's purchases.
type modelStanding struct {
	plan    plans.Plan
	monthly Monthly
	overage bool
	since   time.Time // of the plan, zero for now
}

// seenAt is when a plan took effect in a period: what is seen late counts from then.
func (s modelStanding) seenAt(p *modelPeriod, now time.Time) time.Time {
	if s.since.IsZero() || now.Before(s.since) {
		return now
	}
	return latest(s.since, p.start)
}

// modelOutcome is what the rules say of an event. code is "" if it is recorded; field is what an invalid one names.
type modelOutcome struct {
	code, field string
	credits     int64
	duplicate   bool
}

func (p *modelPeriod) total() int64 {
	var sum int64
	for _, credits := range p.used {
		sum += credits
	}
	return sum
}

func (p *modelPeriod) cycleStart() time.Time { return monthLater(p.anchor, p.months) }

func (a *modelAccount) latest() *modelPeriod { return a.periods[len(a.periods)-1] }

func (a *modelAccount) number() int { return len(a.periods) - 1 }

// held is what reservations of the latest period hold.
func (a *modelAccount) held() int64 { return a.heldIn(a.number()) }

func (a *modelAccount) heldIn(period int) (sum int64) {
	for _, h := range a.holds {
		if h.period == period && !h.ended {
			sum += h.credits
		}
	}
	return sum
}

// freeHolds ends the reservations that have run out.
func (a *modelAccount) freeHolds(now time.Time) {
	for _, h := range a.holds {
		h.ended = h.ended || !now.Before(h.expires)
	}
}

// room is what can still be spent.
func (a *modelAccount) room() int64 {
	p := a.latest()
	if p.limit == nil {
		return 1 << 61
	}
	return max(0, a.granted()+*p.limit-p.total()-a.held())
}

// remaining is what is left before the cap or the overage.
func (a *modelAccount) remaining() int64 {
	p := a.latest()
	return max(0, a.granted()+p.overage-p.total()-a.held())
}

// monthLater is the anchor's day and time of day in the n-th month after it, or that month's last day.
func monthLater(anchor time.Time, n int) time.Time {
	first := time.Date(anchor.Year(), anchor.Month()+time.Month(n), 1, 0, 0, 0, 0, time.UTC)
	last := time.Date(first.Year(), first.Month()+1, 0, 0, 0, 0, 0, time.UTC).Day()
	return time.Date(first.Year(), first.Month(), min(anchor.Day(), last),
		anchor.Hour(), anchor.Minute(), anchor.Second(), anchor.Nanosecond(), time.UTC)
}

// monthOf is the number of the month of a cycle that an instant lies in.
func monthOf(anchor, at time.Time) int {
	n := 0
	for !monthLater(anchor, n+1).After(at) {
		n++
	}
	return n
}

// open is the account's current period. An account's periods follow the day of its creation until a subscription or a
// change by hand says otherwise; where one is over, the next are those of the same cycle, up to that which now lies in.
// Those whose monthly credits would have expired since are left out.
func (m *model) open(a *modelAccount, now time.Time) *modelPeriod {
	plan := m.plans[a.tier]
	if len(a.periods) == 0 {
		anchor := a.created.Truncate(24 * time.Hour)
		own := modelStanding{plan: plan, monthly: Full, overage: true}
		m.start(a, OwnSource, anchor, monthOf(anchor, now), anchor, own, now)
	}
	for !now.Before(a.latest().end) {
		p := a.latest()
		months := p.months + 1
		for !monthLater(p.anchor, months+1+plan.CarryoverMonths).After(now) {
			months++
		}
		m.start(a, p.source, p.anchor, months, p.end, m.unasked(p, plan), now)
	}
	if !now.Before(a.latest().valid) {
		a.refresh(now)
	}
	return a.latest()
}

// unasked is the standing in a period that traffic opens. Of a subscription it is not known whether it was paid for again.
func (m *model) unasked(before *modelPeriod, plan plans.Plan) modelStanding {
	if before.source == OwnSource {
		return modelStanding{plan: plan, monthly: Full, overage: true}
	}
	return modelStanding{plan: plan, monthly: Bridge, overage: !before.off}
}

// start closes the latest period and begins another.
func (m *model) start(
	a *modelAccount, source string, anchor time.Time, months int, notBefore time.Time, s modelStanding, now time.Time,
) {
	next := &modelPeriod{
		source: source, anchor: anchor, months: months, start: monthLater(anchor, months), end: monthLater(anchor, months+1),
		used: map[plans.Category]int64{},
	}
	if next.start.Before(notBefore) {
		next.start = notBefore
	}
	var back int64
	if len(a.periods) > 0 {
		before := a.latest().source
		back = a.close(next.start, now, before != OwnSource && before != source)
	}
	a.periods = append(a.periods, next)
	if back > 0 { // billed, and reversed before the period was over
		next.tier = s.plan.Tier
		m.adjust(a, back, "overage-reversed:"+itoa(a.number()-1), now)
	}
	m.apply(a, s, false, now)
}

// change puts the account under another standing, by hand if cycle is nil.
func (m *model) change(a *modelAccount, now time.Time, s modelStanding, cycle *Cycle) {
	m.changePeriod(a, now, s, cycle)
	a.tier = s.plan.Tier
}

func (a *modelAccount) copy() modelAccount {
	copied := *a
	copied.periods = nil
	for _, p := range a.periods {
		period := *p
		copied.periods = append(copied.periods, &period)
	}
	copied.grants, copied.burns = slices.Clone(a.grants), slices.Clone(a.burns)
	copied.losses, copied.overages = slices.Clone(a.losses), slices.Clone(a.overages)
	return copied
}

func (m *model) changePeriod(a *modelAccount, now time.Time, s modelStanding, cycle *Cycle) {
	// The subscription that the latest period follows says itself what the current one is.
	if cycle == nil || len(a.periods) == 0 || a.latest().source != cycle.Source {
		m.open(a, now)
	}
	current := a.latest()
	switch {
	case cycle == nil && current.source != OwnSource:
		at := s.seenAt(current, now)
		m.cut(a, at, s, Cycle{Source: OwnSource, Anchor: at, Start: at}, now)
		return
	case cycle != nil && (current.source != cycle.Source || current.cycleStart().Before(cycle.Start)):
		m.cut(a, cycle.Start, s, *cycle, now)
		return
	case cycle != nil && !theirEnd(*cycle).After(current.cycleStart()):
		// What was read is from before this period began, and so says nothing of who has paid for it.
		s.monthly = min(s.monthly, Bridge)
	}
	m.apply(a, s, cycle == nil, now)
}

// theirEnd is when a subscription's period ends that began at the cycle's start: with its month, or where it was before
// the anchor, there.
func theirEnd(c Cycle) time.Time {
	if c.Start.Before(c.Anchor) {
		return c.Anchor
	}
	return monthLater(c.Anchor, monthOf(c.Anchor, c.Start)+1)
}

// cut ends the current period at a time and begins that of a cycle. The current one keeps at least a millisecond. Months
// are counted from the cycle's anchor, or from its start where that is not whole months after the anchor.
func (m *model) cut(a *modelAccount, at time.Time, s modelStanding, cycle Cycle, now time.Time) {
	current := a.latest()
	if least := current.start.Add(time.Millisecond); at.Before(least) {
		at = least
	}
	if at.Before(current.end) {
		current.end = at
	}
	months := monthOf(cycle.Anchor, cycle.Start)
	if !monthLater(cycle.Anchor, months).Equal(cycle.Start) {
		cycle.Anchor, months = cycle.Start, 0
	}
	if !monthLater(cycle.Anchor, months+1).After(at) {
		// What was read is from before the current period, and so says nothing of who has paid for its month.
		months = monthOf(cycle.Anchor, at)
		s.monthly = min(s.monthly, Bridge)
	}
	m.start(a, cycle.Source, cycle.Anchor, months, at, s, now)
}

// record is what becomes of a batch.
func (m *model) record(now time.Time, events []Event) []modelOutcome {
	outcomes := make([]modelOutcome, len(events))
	for i, e := range events {
		outcomes[i] = m.recordOne(now, e)
	}
	return outcomes
}

func (m *model) recordOne(now time.Time, e Event) modelOutcome {
	accountID := e.AccountID
	switch {
	case (e.AccountID == "") == (e.KeyID == ""):
		return modelOutcome{code: "invalid_request", field: "accountId"}
	case e.KeyID != "":
		var ok bool
		if accountID, ok = m.keys[e.KeyID]; !ok {
			return modelOutcome{code: "key_not_found"}
		}
	}
	a, ok := m.accounts[accountID]
	if !ok {
		return modelOutcome{code: "account_not_found"}
	}
	current := m.open(a, now)
	if a.reserved(e.ID) {
		return modelOutcome{code: "event_conflict"}
	}
	if before, ok := a.events[e.ID]; ok {
		if before.reversal || !samePayload(before.sent, e) {
			return modelOutcome{code: "event_conflict"}
		}
		return modelOutcome{credits: before.credits, duplicate: true}
	}
	if field := wrongField(e, now); field != "" {
		return modelOutcome{code: "invalid_request", field: field}
	}
	cost, field := modelCost(e)
	if field != "" {
		return modelOutcome{code: "invalid_request", field: field}
	}
	if cost > a.room() {
		return modelOutcome{code: "credits_exhausted"}
	}
	current.used[e.Category] += cost
	current.requests++
	a.events[e.ID] = modelEvent{sent: e, credits: cost, period: a.number()}
	return modelOutcome{credits: cost}
}

// samePayload compares what was sent. The same instant in another time zone is the same.
func samePayload(a, b Event) bool {
	for _, e := range []*Event{&a, &b} {
		if e.OccurredAt != nil {
			utc := e.OccurredAt.UTC()
			e.OccurredAt = &utc
		}
	}
	return reflect.DeepEqual(a, b)
}

func wrongField(e Event, now time.Time) string {
	switch {
	case e.Credits != nil && (e.Provider != "" || e.Quantity != nil || e.Output != nil):
		return "credits"
	case e.Credits == nil && e.Quantity == nil && !e.BYOK:
		return "quantity"
	case e.Output != nil && e.Category != plans.LLM:
		return "outputQuantity"
	case e.OccurredAt != nil && (e.OccurredAt.Sub(now) > 5*time.Minute || now.Sub(*e.OccurredAt) > 35*24*time.Hour):
		return "occurredAt"
	}
	return ""
}

// modelCost is from the price list: kokoro 4 credits for 1,000 characters, groq 2 a minute, gpt-4.1 4 and 16 for 1,000
// tokens in and out, a search query 2; each event is rounded up to a whole credit.
func modelCost(e Event) (credits int64, field string) {
	switch {
	case e.BYOK:
		return 0, ""
	case e.Credits != nil:
		return *e.Credits, ""
	}
	var output int64
	if e.Output != nil {
		output = *e.Output
	}
	switch string(e.Category) + "/" + e.Provider {
	case "tts/kokoro":
		return (*e.Quantity*4 + 999) / 1000, ""
	case "stt/groq":
		return (*e.Quantity*2 + 59) / 60, ""
	case "llm/gpt-4.1":
		return (*e.Quantity*4 + output*16 + 999) / 1000, ""
	case "rag/":
		return *e.Quantity * 2, ""
	}
	return 0, "provider"
}

// reserved reports whether an id belongs to a reservation.
func (a *modelAccount) reserved(eventID string) bool {
	return slices.ContainsFunc(a.holds, func(h *modelHold) bool { return h.eventID == eventID })
}

// reverse gives back what an event cost, once: in its own period, or if that is closed by an adjustment in the open one.
func (m *model) reverse(a *modelAccount, now time.Time, id string) (credits int64, duplicate bool) {
	p := m.open(a, now)
	e := a.events[id]
	if e.reversed {
		return e.credits, true
	}
	e.reversed = true
	a.events[id] = e
	given := modelEvent{period: a.number(), reversal: true}
	if e.period == a.number() {
		given.credits = -e.credits
		p.used[e.sent.Category] -= e.credits
	} else {
		m.adjust(a, e.credits, "reversal:"+id, now)
	}
	a.events["reversal:"+id] = given
	return e.credits, false
}

// settle ends a reservation with its cost, as far as there is room for it.
func (m *model) settle(a *modelAccount, now time.Time, h *modelHold, cost int64) (charged int64) {
	p := m.open(a, now)
	h.ended, h.final = true, true // what it held is room
	charged = min(cost, a.room())
	p.used[plans.LLM] += charged
	p.requests++
	a.events[h.eventID] = modelEvent{
		sent: Event{Category: plans.LLM}, credits: charged, period: a.number(), settled: true,
	}
	return charged
}
