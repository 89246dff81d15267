package credits

import (
	"context"
)

// Difference is something in the ledger that does not add up.
type Difference struct {
	Rule      string // that is broken
	AccountID string
	Found     string // where
}

// maxDifferences is how many differences are told of each rule.
const maxDifferences = 100

// Verify recomputes every balance and total from the entries and returns what differs: nothing, ever (guarantee G4). It
// reads the whole ledger.
func (c *Credits) Verify(ctx context.Context) ([]Difference, error) {
	return differences(ctx, c.pool, maxDifferences)
}
