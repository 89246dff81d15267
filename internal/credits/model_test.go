package credits

import (
	"reflect"
	"time"

	"github.com/keymeter/keymeter/internal/plans"
)

// model is the ledger as its rules say it is, in memory and one step at a time. It shares the types of events and
// nothing else with the code: no calendar, no prices, no SQL.
type model struct {
	accounts map[string]*modelAccount
	keys     map[string]string // key id to account id
	plans    map[plans.Tier]plans.Plan
}

type modelAccount struct {
	tier    plans.Tier
	created time.Time
	periods []*modelPeriod
	events  map[string]modelEvent
}

type modelPeriod struct {
	source            string
	anchor            time.Time
	months            int
	start, end        time.Time
	tier              plans.Tier
	capped            bool
	granted, included int64
	used              map[plans.Category]int64
	requests          int64
}

type modelEvent struct {
	sent    Event
	credits int64
	period  int
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

func (a *modelAccount) latest() *modelPeriod { return a.periods[len(a.periods)-1] }

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
// change by hand says otherwise; where one is over, the next is that of the same cycle which now lies in.
func (m *model) open(a *modelAccount, now time.Time) *modelPeriod {
	plan := m.plans[a.tier]
	if len(a.periods) == 0 {
		anchor := a.created.Truncate(24 * time.Hour)
		return m.start(a, OwnSource, anchor, monthOf(anchor, now), anchor, plan)
	}
	latest := a.latest()
	if now.Before(latest.end) {
		return latest
	}
	return m.start(a, latest.source, latest.anchor, monthOf(latest.anchor, now), latest.end, plan)
}

// start begins a period. A month of a subscription was paid for once, so what was used of it before is used.
func (m *model) start(
	a *modelAccount, source string, anchor time.Time, months int, notBefore time.Time, plan plans.Plan,
) *modelPeriod {
	granted := plan.MonthlyCredits
	if source != OwnSource {
		for _, p := range a.periods {
			if p.source == source && p.anchor.Equal(anchor) && p.months == months {
				granted -= p.total()
			}
		}
	}
	next := &modelPeriod{
		source: source, anchor: anchor, months: months, start: monthLater(anchor, months), end: monthLater(anchor, months+1),
		tier: plan.Tier, capped: plan.Capped, granted: max(0, granted), included: plan.MonthlyCredits,
		used: map[plans.Category]int64{},
	}
	if next.start.Before(notBefore) {
		next.start = notBefore
	}
	a.periods = append(a.periods, next)
	return next
}

// change puts the account under another plan, by hand if cycle is nil. It reports whether it can: a reading of a period
// that was over before the current one began is refused, and leaves no trace.
func (m *model) change(a *modelAccount, now time.Time, tier plans.Tier, cycle *Cycle) bool {
	before := a.copy()
	m.changePeriod(a, now, m.plans[tier], cycle)
	if latest := a.latest(); !latest.start.Before(latest.end) {
		*a = before
		return false
	}
	a.tier = tier
	return true
}

func (a *modelAccount) copy() modelAccount {
	copied := *a
	copied.periods = nil
	for _, p := range a.periods {
		period := *p
		copied.periods = append(copied.periods, &period)
	}
	return copied
}

func (m *model) changePeriod(a *modelAccount, now time.Time, plan plans.Plan, cycle *Cycle) {
	var current *modelPeriod
	if cycle != nil && len(a.periods) > 0 && a.latest().source == cycle.Source {
		current = a.latest() // the subscription says what the current period is
	} else {
		current = m.open(a, now)
	}
	more := plan.MonthlyCredits - current.included
	if cycle != nil {
		more = max(0, more) // Stripe may sell more for this month; it never takes away
	}
	// What was used in overage, or under a higher cap, can't stand under this one.
	unfit := plan.Capped && (!current.capped || current.total() > current.granted+more)
	switch {
	case cycle == nil && (unfit || current.source != OwnSource):
		m.cut(a, now, plan, Cycle{Source: OwnSource, Anchor: now, Start: now})
		return
	case cycle != nil && (current.source != cycle.Source || monthLater(current.anchor, current.months).Before(cycle.Start)):
		m.cut(a, cycle.Start, plan, *cycle)
		return
	case unfit: // in mid-month
		m.cut(a, now, plan, *cycle)
		return
	}
	current.granted += more
	current.included += more
	current.tier, current.capped = plan.Tier, plan.Capped
}

// cut ends the current period at a time and begins that of a cycle. The current one keeps at least a millisecond. Months
// are counted from the cycle's anchor, or from its start where that is not whole months after the anchor.
func (m *model) cut(a *modelAccount, at time.Time, plan plans.Plan, cycle Cycle) {
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
	m.start(a, cycle.Source, cycle.Anchor, months, at, plan)
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
	if before, ok := a.events[e.ID]; ok {
		if !samePayload(before.sent, e) {
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
	if current.capped && current.total()+cost > current.granted {
		return modelOutcome{code: "credits_exhausted"}
	}
	current.used[e.Category] += cost
	current.requests++
	a.events[e.ID] = modelEvent{sent: e, credits: cost, period: len(a.periods) - 1}
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
