package credits

import (
	"context"

	"github.com/keymeter/keymeter/gen/queries"
	"github.com/keymeter/keymeter/internal/postgres"
)

func listEntries(
	ctx context.Context, db queries.DBTX, accountID string, kinds []EntryKind, before entryPlace, limit int,
) ([]Entry, error) {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = string(k)
	}
	rows, err := queries.New(db).LedgerEntries(ctx, queries.LedgerEntriesParams{
		AccountID: accountID, Kinds: names, Before: before.At, BeforeKind: string(before.Kind), BeforeID: before.ID,
		MaxRows: int32(limit),
	})
	entries := make([]Entry, len(rows))
	for i, row := range rows {
		entries[i] = Entry{
			ID: row.ID, Kind: EntryKind(row.Kind), At: row.At, Period: row.Period, Credits: row.Credits, Label: row.Label,
			GrantID: row.GrantID, Reason: row.Reason, ExpiresAt: row.ExpiresAt, UnitMicros: row.UnitMicros,
		}
	}
	return entries, err
}

func getPeriod(ctx context.Context, db queries.DBTX, accountID string, period int32) (Balance, bool, error) {
	row, err := queries.New(db).GetPeriod(ctx, queries.GetPeriodParams{AccountID: accountID, Period: period})
	if postgres.NoRows(err) {
		return Balance{}, false, nil
	}
	return fromRow(row), err == nil, err
}

// periodEntries returns what a period took over, and its entries but for usage.
func periodEntries(ctx context.Context, db queries.DBTX, b Balance) (carried int64, entries []Entry, err error) {
	q := queries.New(db)
	if carried, err = q.CarriedInto(ctx, queries.CarriedIntoParams{AccountID: b.AccountID, Period: b.Period}); err != nil {
		return 0, nil, err
	}
	grants, err := q.GrantsOfPeriod(ctx, queries.GrantsOfPeriodParams{AccountID: b.AccountID, Period: b.Period})
	if err != nil {
		return 0, nil, err
	}
	for _, g := range grants {
		entries = append(entries, Entry{
			ID: g.ID, Kind: GrantEntry, At: g.CreatedAt, Period: g.Period, Credits: g.Amount, Label: g.Kind, GrantID: g.ID,
			Reason: g.Reason, ExpiresAt: g.ExpiresAt,
		})
	}
	losses, err := q.LossesOfPeriod(ctx, queries.LossesOfPeriodParams{AccountID: b.AccountID, Period: b.Period})
	if err != nil {
		return 0, nil, err
	}
	for _, l := range losses {
		entries = append(entries, Entry{
			ID: l.ID, Kind: LossEntry, At: l.CreatedAt, Period: l.Period, Credits: -l.Amount, Label: l.Cause, GrantID: l.GrantID,
		})
	}
	overages, err := q.OveragesOfPeriod(ctx, queries.OveragesOfPeriodParams{AccountID: b.AccountID, Period: b.Period})
	for _, o := range overages {
		entries = append(entries, Entry{
			ID: o.ID, Kind: OverageEntry, At: o.CreatedAt, Period: o.Period, Credits: o.Credits, Label: o.Subscription,
			UnitMicros: o.UnitMicros,
		})
	}
	return carried, entries, err
}

func setOverageLimit(ctx context.Context, db queries.DBTX, accountID string, limit *int64) error {
	return queries.New(db).SetOverageLimit(ctx, queries.SetOverageLimitParams{AccountID: accountID, OverageLimit: limit})
}
