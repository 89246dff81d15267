package credits

import (
	"fmt"
	"time"

	"github.com/keymeter/keymeter/internal/fault"
	"github.com/keymeter/keymeter/internal/plans"
)

// maxTotal bounds what a period can add up to where no cap does, so that sums never leave the range of a bigint.
const maxTotal = 1 << 61

// unchangedLimit leaves the limit of a key's budget as it is stored.
const unchangedLimit = -2

// ledger is the state of accounts within a transaction that holds the rows of their current periods: what is stored,
// and what has been decided since and is yet to be written.
type ledger struct {
	now      time.Time
	accounts map[string]*account
	// To be written, beside what the accounts hold.
	events  []entry
	totals  map[totalKey]total
	earlier map[earlierKey]int64 // what is held less in periods that are over
}

// account is an account's current period.
type account struct {
	balance Balance
	stored  Balance
	seen    map[string]seenEvent // by id: events that may be sent again, and those decided
	budgets map[string]*budget   // by family of keys
}

// entry is an event as it enters the ledger.
type entry struct {
	*draft
	period      int32
	credits     int64
	uncollected int64
	occurredAt  time.Time
	late        bool
	reverses    string // the event that this one corrects, or ""
}

type totalKey struct {
	accountID, keyID string
	category         plans.Category
	hour             int64 // seconds since 1970
}

type total struct{ credits, requests int64 }

// earlierKey is a period that is over. family is "" for the account's own row.
type earlierKey struct {
	accountID, family string
	period            int32
}

// budget is what the keys of a family spent in the current period.
type budget struct {
	used, held       int64 // as stored; known only where an event has a limit
	addUsed, addHeld int64
	limit            int64 // to be written
}

func newLedger(now time.Time, balances ...Balance) *ledger {
	l := &ledger{
		now: now, accounts: map[string]*account{}, totals: map[totalKey]total{}, earlier: map[earlierKey]int64{},
	}
	for _, b := range balances {
		l.add(b)
	}
	return l
}

func (l *ledger) add(b Balance) {
	l.accounts[b.AccountID] = &account{
		balance: b, stored: b, seen: map[string]seenEvent{}, budgets: map[string]*budget{},
	}
}

// seenEvent is what is stored of an event. The id of a reservation's event is taken from the start.
type seenEvent struct {
	credits     int64
	late        bool
	reserved    bool
	fingerprint fingerprint
}

// answer is the outcome of sending an event again.
func (s seenEvent) answer(d *draft) Outcome {
	switch {
	case s.reserved:
		return Outcome{Refusal: reservedConflict(d.id)}
	case s.fingerprint != d.fingerprint:
		return Outcome{Refusal: eventConflict(d.id)}
	}
	return Outcome{Credits: s.credits, Late: s.late, Duplicate: true}
}

func eventConflict(id string) *fault.Error {
	return fault.New(fault.Conflict, "event_conflict",
		fmt.Sprintf("Event %s was recorded before with another payload.", id))
}

func reservedConflict(id string) *fault.Error {
	return fault.New(fault.Conflict, "event_conflict", fmt.Sprintf("Event %s belongs to a reservation.", id))
}

// spendAll decides about events in their order. It reports whether all are recorded now.
func (l *ledger) spendAll(drafts []*draft) bool {
	recorded := true
	for _, d := range drafts {
		l.spend(d)
		recorded = recorded && d.outcome.Refusal == nil && !d.outcome.Duplicate
	}
	return recorded
}

// spend decides about an event. One that was recorded before is answered from the record, whatever has become of prices
// and plans since.
func (l *ledger) spend(d *draft) {
	a := l.accounts[d.accountID]
	if a == nil {
		d.outcome = Outcome{Refusal: errNoAccount}
		return
	}
	if before, ok := a.seen[d.id]; ok {
		d.outcome = before.answer(d)
	} else if refusal := a.refuse(d); refusal != nil {
		d.outcome = Outcome{Refusal: refusal}
	} else {
		late := l.record(a, entry{draft: d, credits: d.cost, occurredAt: d.occurredAt})
		d.outcome = Outcome{Credits: d.cost, Late: late}
	}
	d.outcome.Remaining = a.balance.Remaining()
	if d.keyID != "" && d.limit != noLimit {
		left := a.budget(d.family).left(d.limit)
		d.outcome.KeyRemaining = &left
	}
}

func (a *account) refuse(d *draft) *fault.Error {
	switch {
	case d.refusal != nil:
		return d.refusal
	case d.cost > a.left():
		return errExhausted
	case d.keyID != "" && d.limit != noLimit && d.cost > a.budget(d.family).left(d.limit):
		return errKeyLimit
	}
	return nil
}

// left is what can still be spent, at least 0.
func (a *account) left() int64 {
	limit := int64(maxTotal)
	if a.balance.OverageLimit != nil {
		limit = a.balance.Granted + *a.balance.OverageLimit
	}
	return max(0, limit-a.balance.Used()-a.balance.Held)
}

// leftFor is what a key can still spend, at least 0.
func (a *account) leftFor(family string, limit int64) int64 {
	if limit == noLimit {
		return a.left()
	}
	return min(a.left(), a.budget(family).left(limit))
}

func (a *account) budget(family string) *budget {
	b := a.budgets[family]
	if b == nil {
		b = &budget{limit: unchangedLimit}
		a.budgets[family] = b
	}
	return b
}

// left is what the keys can spend under the limit, at least 0.
func (b *budget) left(limit int64) int64 { return max(0, limit-b.used-b.held-b.addUsed-b.addHeld) }

// decidedBy notes a limit by which something was decided. Of several the loosest is stored.
func (b *budget) decidedBy(limit int64) {
	if limit == noLimit || b.limit == noLimit {
		b.limit = noLimit
		return
	}
	b.limit = max(b.limit, limit)
}

// record enters an event into the current period, and returns whether it is late for its own.
func (l *ledger) record(a *account, e entry) bool {
	if e.occurredAt.IsZero() {
		e.occurredAt = l.now
	}
	e.period = a.balance.Period
	e.late = e.occurredAt.Before(a.balance.StartsAt)
	requests := int64(1)
	if e.reverses != "" {
		requests = 0
	}
	a.balance.add(e.category, e.credits, requests)
	key := totalKey{
		accountID: e.accountID, keyID: e.keyID, category: e.category, hour: e.occurredAt.Truncate(time.Hour).Unix(),
	}
	sum := l.totals[key]
	l.totals[key] = total{credits: sum.credits + e.credits, requests: sum.requests + requests}
	if e.keyID != "" {
		b := a.budget(e.family)
		b.addUsed += e.credits
		if e.reverses == "" {
			b.decidedBy(e.limit)
		}
	}
	a.seen[e.id] = seenEvent{credits: e.credits, late: e.late, fingerprint: e.fingerprint}
	l.events = append(l.events, e)
	return e.late
}

// hold changes what is held in a period, which may be over.
func (l *ledger) hold(accountID string, period int32, family string, credits int64) {
	a := l.accounts[accountID]
	if period == a.balance.Period {
		a.balance.Held += credits
		if family != "" {
			a.budget(family).addHeld += credits
		}
		return
	}
	l.earlier[earlierKey{accountID: accountID, period: period}] += credits
	if family != "" {
		l.earlier[earlierKey{accountID: accountID, period: period, family: family}] += credits
	}
}

func (b *Balance) add(category plans.Category, credits, requests int64) {
	switch category {
	case plans.TTS:
		b.TTS += credits
	case plans.STT:
		b.STT += credits
	case plans.LLM:
		b.LLM += credits
	case plans.RAG:
		b.RAG += credits
	}
	b.Requests += requests
}

// since returns what has been added to the sums since.
func (b Balance) since(before Balance) Balance {
	return Balance{
		TTS: b.TTS - before.TTS, STT: b.STT - before.STT, LLM: b.LLM - before.LLM, RAG: b.RAG - before.RAG,
		Requests: b.Requests - before.Requests, Held: b.Held - before.Held, Granted: b.Granted - before.Granted,
	}
}
