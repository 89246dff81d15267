package credits

import (
	"context"

	"github.com/keymeter/keymeter/gen/queries"
)

func differences(ctx context.Context, db queries.DBTX, most int32) ([]Difference, error) {
	rows, err := queries.New(db).LedgerDifferences(ctx, most)
	found := make([]Difference, len(rows))
	for i, row := range rows {
		found[i] = Difference{Rule: row.Rule, AccountID: row.AccountID, Found: row.Found}
	}
	return found, err
}
