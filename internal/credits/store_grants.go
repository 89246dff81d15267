package credits

import (
	"context"
	"time"

	"github.com/keymeter/keymeter/gen/queries"
	"github.com/keymeter/keymeter/internal/postgres"
)

// openLots returns the account's lots, in their order.
func openLots(ctx context.Context, db queries.DBTX, accountID string) (lots, error) {
	rows, err := queries.New(db).OpenGrants(ctx, accountID)
	found := make(lots, len(rows))
	for i, row := range rows {
		found[i] = lot{
			id: row.ID, source: row.Source, kind: Kind(row.Kind), period: row.Period, available: row.Available,
			createdAt: row.CreatedAt, expiresAt: row.ExpiresAt,
		}
	}
	found.sort()
	return found, err
}

// insertGrant reports whether the grant was not there yet.
func insertGrant(ctx context.Context, db queries.DBTX, period int32, g Grant) (bool, error) {
	rows, err := queries.New(db).InsertGrant(ctx, queries.InsertGrantParams{
		ID: g.ID, AccountID: g.AccountID, Period: period, Kind: string(g.Kind), Amount: g.Amount, Source: g.Source,
		Reason: g.Reason, CreatedAt: g.CreatedAt, ExpiresAt: g.ExpiresAt,
	})
	return rows > 0, err
}

func findGrant(ctx context.Context, db queries.DBTX, accountID, source string) (id string, ok bool, err error) {
	id, err = queries.New(db).FindGrant(ctx, queries.FindGrantParams{AccountID: accountID, Source: source})
	if postgres.NoRows(err) {
		return "", false, nil
	}
	return id, err == nil, err
}

// burnedOf returns what closed periods used of the grant that a source gave.
func burnedOf(ctx context.Context, db queries.DBTX, accountID, source string) (int64, error) {
	return queries.New(db).BurnedOfGrant(ctx, queries.BurnedOfGrantParams{AccountID: accountID, Source: source})
}

// insertBurns writes what a period used of each lot.
func insertBurns(ctx context.Context, db queries.DBTX, b Balance, ls lots, burned []int64, now time.Time) error {
	p := queries.InsertBurnsParams{AccountID: b.AccountID, Period: b.Period, Now: now}
	for i, credits := range burned {
		if credits > 0 {
			p.GrantIds, p.Credits = append(p.GrantIds, ls[i].id), append(p.Credits, credits)
		}
	}
	if len(p.GrantIds) == 0 {
		return nil
	}
	return queries.New(db).InsertBurns(ctx, p)
}

// cause is why credits were taken away unused.
type cause string

const (
	lostByExpiry     cause = "expired"
	lostTakenBack    cause = "taken_back"
	lostReplaced     cause = "replaced"
	lostPlanChange   cause = "plan_changed"
	lostByLeaving    cause = "left"
	lostByAdjustment cause = "adjusted"
)

type loss struct {
	id, accountID, grantID string
	period                 int32
	amount                 int64
	cause                  cause
	source                 string
	at                     time.Time
}

func insertLoss(ctx context.Context, db queries.DBTX, l loss) error {
	return queries.New(db).InsertLoss(ctx, queries.InsertLossParams{
		ID: l.id, AccountID: l.accountID, GrantID: l.grantID, Period: l.period, Amount: l.amount, Cause: string(l.cause),
		Source: l.source, CreatedAt: l.at,
	})
}

// takenGrant is a grant, and what was taken back of it.
type takenGrant struct {
	id            string
	kind          Kind
	amount, taken int64
	expiresAt     *time.Time
}

// grantAndGivenBack returns the grant that a source gave, if it did, and then what was given back of it.
func grantAndGivenBack(ctx context.Context, db queries.DBTX, accountID, source string) ([]takenGrant, error) {
	rows, err := queries.New(db).GrantAndGivenBack(ctx, queries.GrantAndGivenBackParams{
		AccountID: accountID, Source: source, GivenBack: GivenBack(source) + ":",
	})
	found := make([]takenGrant, len(rows))
	for i, row := range rows {
		found[i] = takenGrant{
			id: row.ID, kind: Kind(row.Kind), amount: row.Amount, taken: row.Taken, expiresAt: row.ExpiresAt,
		}
	}
	return found, err
}

// lossesBy returns what a source took of grants. ok is false if it has not been there.
func lossesBy(
	ctx context.Context, db queries.DBTX, accountID string, grants []takenGrant, source string,
) (amount int64, ok bool, err error) {
	ids := make([]string, len(grants))
	for i, g := range grants {
		ids[i] = g.id
	}
	row, err := queries.New(db).LossesOfSource(ctx,
		queries.LossesOfSourceParams{AccountID: accountID, Source: source, GrantIds: ids})
	return row.Amount, row.Count > 0, err
}

// countOverage returns how many overages of a period are in the ledger.
func countOverage(ctx context.Context, db queries.DBTX, b Balance) (int64, error) {
	return queries.New(db).CountOverage(ctx, queries.CountOverageParams{AccountID: b.AccountID, Period: b.Period})
}

func insertOverage(ctx context.Context, db queries.DBTX, o Overage) error {
	return queries.New(db).InsertOverage(ctx, queries.InsertOverageParams{
		ID: o.ID, AccountID: o.AccountID, Period: o.Period, Subscription: o.Subscription, StartsAt: o.StartsAt,
		EndsAt: o.EndsAt, Credits: o.Credits, UnitMicros: o.UnitMicros, CreatedAt: o.CreatedAt,
	})
}

// left is monthly credits that an account lost unused when it left a subscription.
type left struct {
	lossID    string
	amount    int64
	expiresAt *time.Time
}

// includedOfMonth returns the monthly credits of the best plan that the account had in a period's month.
func includedOfMonth(ctx context.Context, db queries.DBTX, b Balance) (int64, error) {
	return queries.New(db).IncludedOfMonth(ctx, queries.IncludedOfMonthParams{
		AccountID: b.AccountID, Source: b.Cycle.Source, Anchor: b.Cycle.Anchor, Months: int32(b.months),
	})
}

func leftOf(ctx context.Context, db queries.DBTX, accountID, subscription string) ([]left, error) {
	rows, err := queries.New(db).LossesOfLeaving(ctx,
		queries.LossesOfLeavingParams{AccountID: accountID, Source: leavingSource(subscription)})
	found := make([]left, len(rows))
	for i, row := range rows {
		found[i] = left{lossID: row.ID, amount: row.Amount, expiresAt: row.ExpiresAt}
	}
	return found, err
}

// setTerms writes what may be spent in a period, and how.
func setTerms(ctx context.Context, db queries.DBTX, b Balance) error {
	return queries.New(db).SetTerms(ctx, queries.SetTermsParams{
		AccountID: b.AccountID, Period: b.Period, Tier: string(b.Tier), Granted: b.Granted, Included: b.Included,
		ValidUntil: b.ValidUntil, Overage: b.Overage, OverageLimit: b.OverageLimit, OverageMicros: b.OverageMicros, OverageOff: b.OverageOff,
		AlertAt: b.alertAt,
	})
}

// settings are what a customer has set.
type settings struct {
	overageLimit  *int64
	alertPercents []int16
}

func getSettings(ctx context.Context, db queries.DBTX, accountID string) (settings, error) {
	row, err := queries.New(db).CreditSettings(ctx, accountID)
	if postgres.NoRows(err) {
		return settings{}, nil
	}
	return settings{overageLimit: row.OverageLimit, alertPercents: row.AlertPercents}, err
}
