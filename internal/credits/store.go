package credits

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/keymeter/keymeter/gen/queries"
	"github.com/keymeter/keymeter/internal/fault"
	"github.com/keymeter/keymeter/internal/plans"
	"github.com/keymeter/keymeter/internal/postgres"
)

type accountRow struct {
	tier      plans.Tier
	createdAt time.Time
}

func lockAccount(ctx context.Context, db queries.DBTX, id string) (accountRow, error) {
	row, err := queries.New(db).LockAccountTier(ctx, id)
	if postgres.NoRows(err) {
		return accountRow{}, errNoAccount
	}
	return accountRow{tier: plans.Tier(row.Tier), createdAt: row.CreatedAt}, err
}

func latestBalance(ctx context.Context, db queries.DBTX, accountID string) (Balance, bool, error) {
	row, err := queries.New(db).LatestBalance(ctx, accountID)
	if postgres.NoRows(err) {
		return Balance{}, false, nil
	}
	return fromRow(row), err == nil, err
}

func lockLatestBalance(ctx context.Context, db queries.DBTX, accountID string) (Balance, bool, error) {
	row, err := queries.New(db).LockLatestBalance(ctx, accountID)
	if postgres.NoRows(err) {
		return Balance{}, false, nil
	}
	return fromRow(row), err == nil, err
}

func fromRow(row queries.Balance) Balance {
	return Balance{
		AccountID: row.AccountID, Period: row.Period, months: int(row.Months),
		Cycle:    Cycle{Source: row.Source, Anchor: row.Anchor, Start: addMonths(row.Anchor, int(row.Months))},
		StartsAt: row.StartsAt, EndsAt: row.EndsAt, Tier: plans.Tier(row.Tier), Capped: row.Capped, Granted: row.Granted,
		Included: row.Included,
		TTS:      row.Tts, STT: row.Stt, LLM: row.Llm, RAG: row.Rag, Requests: row.Requests,
	}
}

func insertBalance(ctx context.Context, db queries.DBTX, b Balance) error {
	return queries.New(db).InsertBalance(ctx, queries.InsertBalanceParams{
		AccountID: b.AccountID, Period: b.Period, Source: b.Cycle.Source, Anchor: b.Cycle.Anchor, Months: int32(b.months),
		StartsAt: b.StartsAt, EndsAt: b.EndsAt, Tier: string(b.Tier), Capped: b.Capped, Granted: b.Granted,
		Included: b.Included,
	})
}

// usedInMonth returns what earlier periods used of the month of the cycle that b is a period of.
func usedInMonth(ctx context.Context, db queries.DBTX, b Balance) (int64, error) {
	return queries.New(db).UsedInMonth(ctx, queries.UsedInMonthParams{
		AccountID: b.AccountID, Source: b.Cycle.Source, Anchor: b.Cycle.Anchor, Months: int32(b.months),
	})
}

func closePeriod(ctx context.Context, db queries.DBTX, b Balance, at time.Time) error {
	return queries.New(db).ClosePeriod(ctx, queries.ClosePeriodParams{AccountID: b.AccountID, Period: b.Period, EndsAt: at})
}

func changePeriod(ctx context.Context, db queries.DBTX, b Balance, plan plans.Plan, more int64) error {
	return queries.New(db).ChangePeriod(ctx, queries.ChangePeriodParams{
		AccountID: b.AccountID, Period: b.Period, Tier: string(plan.Tier), Capped: plan.Capped, MoreGranted: more,
	})
}

type grantRow struct {
	id, accountID string
	period        int32
	kind          string
	amount        int64
	source        string
	createdAt     time.Time
}

func insertGrant(ctx context.Context, db queries.DBTX, g grantRow) error {
	return queries.New(db).InsertGrant(ctx, queries.InsertGrantParams{
		ID: g.id, AccountID: g.accountID, Period: g.period, Kind: g.kind, Amount: g.amount, Source: g.source,
		CreatedAt: g.createdAt,
	})
}

// owners tells whose keys and accounts the events name.
type owners struct {
	ofKey    map[string]string
	accounts map[string]bool
}

func findOwners(ctx context.Context, db queries.DBTX, events []Event) (owners, error) {
	var keyIDs, accountIDs []string
	for _, e := range events {
		if e.KeyID != "" {
			keyIDs = append(keyIDs, e.KeyID)
		}
		if e.AccountID != "" {
			accountIDs = append(accountIDs, e.AccountID)
		}
	}
	found := owners{ofKey: map[string]string{}, accounts: map[string]bool{}}
	if len(keyIDs) > 0 {
		rows, err := queries.New(db).KeyAccounts(ctx, keyIDs)
		if err != nil {
			return owners{}, err
		}
		for _, row := range rows {
			found.ofKey[row.ID] = row.AccountID
		}
	}
	if len(accountIDs) > 0 {
		rows, err := queries.New(db).ExistingAccounts(ctx, accountIDs)
		if err != nil {
			return owners{}, err
		}
		for _, id := range rows {
			found.accounts[id] = true
		}
	}
	return found, nil
}

func (o owners) of(e Event) (string, *fault.Error) {
	if (e.AccountID == "") == (e.KeyID == "") {
		return "", fault.InvalidField("accountId", "or keyId must be given, and not both")
	}
	if e.KeyID == "" {
		if !o.accounts[e.AccountID] {
			return "", errNoAccount
		}
		return e.AccountID, nil
	}
	accountID, ok := o.ofKey[e.KeyID]
	if !ok {
		return "", errNoKey
	}
	return accountID, nil
}

type eventRow struct {
	Event
	accountID              string
	period                 int32
	credits                int64
	occurredAt, recordedAt time.Time
	fingerprint            []byte
}

// seenEvent is what was stored of an event.
type seenEvent struct {
	credits     int64
	fingerprint []byte
}

// answer is the outcome of sending an event again.
func (s seenEvent) answer(again eventRow) Outcome {
	if bytes.Equal(s.fingerprint, again.fingerprint) {
		return Outcome{Credits: s.credits, Duplicate: true}
	}
	return Outcome{Refusal: fault.New(fault.Conflict, "event_conflict",
		fmt.Sprintf("Event %s was recorded before with another payload.", again.ID))}
}

func findEvents(ctx context.Context, db queries.DBTX, accountID string, drafts []draft) (map[string]seenEvent, error) {
	ids := make([]string, len(drafts))
	for i, d := range drafts {
		ids[i] = d.ID
	}
	rows, err := queries.New(db).FindUsageEvents(ctx, queries.FindUsageEventsParams{AccountID: accountID, Ids: ids})
	if err != nil {
		return nil, err
	}
	seen := make(map[string]seenEvent, len(rows)+len(drafts))
	for _, row := range rows {
		seen[row.ID] = seenEvent{credits: row.Credits, fingerprint: row.Fingerprint}
	}
	return seen, nil
}

func insertEvents(ctx context.Context, db queries.DBTX, events []eventRow) error {
	rows := make([]queries.InsertUsageEventsParams, len(events))
	for i, e := range events {
		rows[i] = queries.InsertUsageEventsParams{
			AccountID: e.accountID, ID: e.ID, Period: e.period, KeyID: optional(e.KeyID), Category: string(e.Category),
			Provider: optional(e.Provider), Quantity: e.Quantity, OutputQuantity: e.Output, Byok: e.BYOK,
			Credits: e.credits, OccurredAt: e.occurredAt, RecordedAt: e.recordedAt, Fingerprint: e.fingerprint,
		}
	}
	_, err := queries.New(db).InsertUsageEvents(ctx, rows)
	return err
}

// spend adds the events, all of one period, to its balance.
func spend(ctx context.Context, db queries.DBTX, accountID string, events []eventRow) error {
	var sum Balance
	for _, e := range events {
		sum.add(e.Category, e.credits)
	}
	return queries.New(db).Spend(ctx, queries.SpendParams{
		AccountID: accountID, Period: events[0].period, Tts: sum.TTS, Stt: sum.STT, Llm: sum.LLM, Rag: sum.RAG,
		Requests: sum.Requests,
	})
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
