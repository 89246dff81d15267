package billing

import (
	"context"
	"time"

	"github.com/keymeter/keymeter/gen/queries"
)

func insertTopUp(ctx context.Context, db queries.DBTX, accountID string, p Payment, now time.Time) error {
	return queries.New(db).InsertTopUp(ctx, queries.InsertTopUpParams{
		SessionID: p.SessionID, AccountID: accountID, Credits: p.Credits, AmountCents: p.AmountCents, GrantedAt: now,
	})
}

// reclaimTopUp notes that so many credits in all are asked back, and returns how many more that is than before, which may
// be less. change numbers the changes.
func reclaimTopUp(
	ctx context.Context, db queries.DBTX, sessionID string, total int64,
) (more int64, change int32, err error) {
	row, err := queries.New(db).ReclaimTopUp(ctx, queries.ReclaimTopUpParams{SessionID: sessionID, Reclaimed: total})
	return row.More, row.Changes, err
}
