package credits

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/keymeter/keymeter/internal/fault"
	"github.com/keymeter/keymeter/internal/plans"
	"github.com/keymeter/keymeter/internal/postgres"
)

// Event is something that a customer used. ID is unique in its account for ever. Either AccountID or KeyID names the
// account; either Credits or Quantity says what it costs, unless BYOK makes it free. A nil OccurredAt is now.
type Event struct {
	ID               string
	AccountID, KeyID string
	Category         plans.Category
	Credits          *int64
	Provider         string
	Quantity, Output *int64
	BYOK             bool
	OccurredAt       *time.Time
}

// Outcome is what became of an event. A refused event left no trace.
type Outcome struct {
	Credits   int64
	Duplicate bool         // it had been recorded before; Credits is that of the first time
	Refusal   *fault.Error // nil if it is recorded
}

// MaxAge is how far back an event may have happened.
const MaxAge = 35 * day

const (
	day = 24 * time.Hour
	// leeway is for callers whose clocks are ahead of ours.
	leeway = 5 * time.Minute
)

var (
	errExhausted = fault.New(fault.Exhausted, "credits_exhausted",
		"The event costs more credits than remain in this billing period.")
	errNoKey = fault.New(fault.NotFound, "key_not_found", "There is no such key.")
)

// RecordTx records events, each counted once: an event that was recorded before answers as the first time. Outcomes
// come in the order of the events. Events of a capped account are taken in that order until the next does not fit.
func (c *Credits) RecordTx(ctx context.Context, tx postgres.Tx, events []Event) ([]Outcome, error) {
	now := c.now()
	outcomes := make([]Outcome, len(events))
	drafts, err := c.draftTx(ctx, tx, events, outcomes, now)
	if err != nil {
		return nil, err
	}
	for _, accountID := range slices.Sorted(maps.Keys(drafts)) { // in one order, so that batches never wait in a ring
		if err := c.recordAccountTx(ctx, tx, accountID, drafts[accountID], outcomes, now); err != nil {
			return nil, err
		}
	}
	return outcomes, nil
}

// draft is an event of a known account. index is its place among the events.
type draft struct {
	eventRow
	index int
}

// draftTx finds the events' accounts. What can't be placed gets its refusal.
func (c *Credits) draftTx(
	ctx context.Context, tx postgres.Tx, events []Event, outcomes []Outcome, now time.Time,
) (map[string][]draft, error) {
	owners, err := findOwners(ctx, tx, events)
	if err != nil {
		return nil, err
	}
	drafts := map[string][]draft{}
	for i, e := range events {
		accountID, refusal := owners.of(e)
		if refusal != nil {
			outcomes[i].Refusal = refusal
			continue
		}
		row := eventRow{Event: e, accountID: accountID, recordedAt: now, occurredAt: now, fingerprint: e.fingerprint()}
		if e.OccurredAt != nil {
			row.occurredAt = *e.OccurredAt
		}
		drafts[accountID] = append(drafts[accountID], draft{eventRow: row, index: i})
	}
	return drafts, nil
}

// check refuses what the contract's schema can't: the rules between fields, and times.
func (e Event) check(now time.Time) *fault.Error {
	switch {
	case e.Credits != nil && (e.Provider != "" || e.Quantity != nil || e.Output != nil):
		return fault.InvalidField("credits", "can't stand beside provider, quantity or outputQuantity")
	case e.Credits == nil && e.Quantity == nil && !e.BYOK:
		return fault.InvalidField("quantity", "or credits must be given, unless byok is set")
	case e.Output != nil && e.Category != plans.LLM:
		return fault.InvalidField("outputQuantity", "is only for llm")
	case e.OccurredAt != nil && e.OccurredAt.After(now.Add(leeway)):
		return fault.InvalidField("occurredAt", "is in the future")
	case e.OccurredAt != nil && e.OccurredAt.Before(now.Add(-MaxAge)):
		return fault.InvalidField("occurredAt", "is more than 35 days ago")
	}
	return nil
}

// price checks an event that has not been recorded before and returns what it costs.
func (c *Credits) price(e Event, now time.Time) (int64, *fault.Error) {
	if refusal := e.check(now); refusal != nil {
		return 0, refusal
	}
	switch {
	case e.BYOK:
		return 0, nil
	case e.Credits != nil:
		return *e.Credits, nil
	}
	usage := plans.Usage{Category: e.Category, Provider: e.Provider, Quantity: *e.Quantity}
	if e.Output != nil {
		usage.Output = *e.Output
	}
	cost, err := c.catalogue.Price(usage)
	var unpriced *plans.PriceError
	if errors.As(err, &unpriced) {
		return 0, fault.InvalidField(unpriced.Field, unpriced.Message)
	}
	return cost, nil
}

// fingerprint is the hash of what the caller sent, by which a retry is told from another event with the same id.
func (e Event) fingerprint() []byte {
	if e.OccurredAt != nil {
		utc := e.OccurredAt.UTC()
		e.OccurredAt = &utc
	}
	encoded, err := json.Marshal(e)
	if err != nil {
		panic(fmt.Sprintf("an event of plain values does not encode: %v", err))
	}
	sum := sha256.Sum256(encoded)
	return sum[:]
}

// recordAccountTx records the events of one account. An event that was recorded before is answered from the record,
// whatever has become of prices and plans since.
func (c *Credits) recordAccountTx(
	ctx context.Context, tx postgres.Tx, accountID string, drafts []draft, outcomes []Outcome, now time.Time,
) error {
	balance, err := c.lockCurrentTx(ctx, tx, accountID, now)
	if err != nil {
		return err
	}
	seen, err := findEvents(ctx, tx, accountID, drafts)
	if err != nil {
		return err
	}
	var fresh []eventRow
	for _, d := range drafts {
		if before, ok := seen[d.ID]; ok {
			outcomes[d.index] = before.answer(d.eventRow)
			continue
		}
		cost, refusal := c.price(d.Event, now)
		if refusal == nil && balance.Capped && cost > balance.Remaining() {
			refusal = errExhausted
		}
		outcomes[d.index] = Outcome{Credits: cost, Refusal: refusal}
		if refusal != nil {
			continue
		}
		balance.add(d.Category, cost)
		d.period, d.credits = balance.Period, cost
		fresh = append(fresh, d.eventRow)
		seen[d.ID] = seenEvent{credits: cost, fingerprint: d.fingerprint}
	}
	if len(fresh) == 0 {
		return nil
	}
	if err := insertEvents(ctx, tx, fresh); err != nil {
		return err
	}
	return spend(ctx, tx, accountID, fresh)
}

// lockCurrentTx returns the current period and holds its row.
func (c *Credits) lockCurrentTx(ctx context.Context, tx postgres.Tx, accountID string, now time.Time) (Balance, error) {
	for {
		latest, ok, err := latestBalance(ctx, tx, accountID)
		if err != nil {
			return Balance{}, err
		}
		if !ok || !now.Before(latest.EndsAt) {
			if _, err := c.openTx(ctx, tx, accountID, now); err != nil {
				return Balance{}, err
			}
		}
		locked, _, err := lockLatestBalance(ctx, tx, accountID)
		if err != nil {
			return Balance{}, err
		}
		// While we waited for the row, another period may have begun. Once we hold the last one none can.
		last, _, err := latestBalance(ctx, tx, accountID)
		if err != nil || last.Period == locked.Period && now.Before(locked.EndsAt) {
			return locked, err
		}
	}
}

func (b *Balance) add(category plans.Category, credits int64) {
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
	b.Requests++
}
