package credits

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/keymeter/keymeter/internal/fault"
	"github.com/keymeter/keymeter/internal/plans"
)

// Bucket is how long a bucket of a time series is. Days are those of UTC.
type Bucket string

// The buckets.
const (
	Hour Bucket = "hour"
	Day  Bucket = "day"
)

const (
	// maxHours and maxDays are how long a time series may be, by its bucket.
	maxHours = 31 * 24 * time.Hour
	maxDays  = 366 * 24 * time.Hour
	// maxPoints is how many points a time series may have.
	maxPoints = 10_000
)

// TimeseriesQuery says which usage to add up, and how. A nil From is the beginning of the current billing period, a nil To
// is now; an empty KeyID or Category is any.
type TimeseriesQuery struct {
	From, To          *time.Time
	Bucket            Bucket
	ByKey, ByCategory bool // what to tell apart within a bucket
	KeyID             string
	Category          plans.Category
}

// Point is what was used in a bucket of time. KeyID is empty for usage without a key and unless keys are told apart, as
// is Category unless categories are.
type Point struct {
	Start             time.Time
	KeyID             string
	Category          plans.Category
	Credits, Requests int64
}

// Timeseries returns what the account used over time, oldest first. Buckets without usage are left out.
//
// Usage is kept by the hour: the hours in which the range begins and ends are counted whole. A range of more than 31 days
// in hours or 366 in days, and one of more than 10,000 points, is refused: nothing is cut off.
func (c *Credits) Timeseries(ctx context.Context, accountID string, q TimeseriesQuery) ([]Point, error) {
	from, to, err := c.rangeOf(ctx, accountID, q)
	if err != nil {
		return nil, err
	}
	if refusal := checkRange(q.Bucket, from, to); refusal != nil {
		return nil, refusal
	}
	points, err := usagePoints(ctx, c.pool, accountID, q, from.UTC().Truncate(time.Hour), to, maxPoints+1)
	if err != nil {
		return nil, err
	}
	if len(points) > maxPoints {
		return nil, fault.InvalidField("from", "begins a range of more than 10,000 points: "+
			"ask for less of it, for longer buckets, for one key or for fewer groups")
	}
	slices.SortFunc(points, func(a, b Point) int {
		return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(a.KeyID, b.KeyID), cmp.Compare(a.Category, b.Category))
	})
	return points, nil
}

// rangeOf returns the time that the query is of.
func (c *Credits) rangeOf(ctx context.Context, accountID string, q TimeseriesQuery) (from, to time.Time, err error) {
	to = c.now()
	if q.To != nil {
		to = *q.To
	}
	if q.From != nil {
		return *q.From, to, nil
	}
	current, err := c.Current(ctx, accountID)
	if err == nil && !current.StartsAt.Before(to) {
		err = fault.InvalidField("from", "must be given if to is not after the beginning of the current billing period")
	}
	return current.StartsAt, to, err
}

func checkRange(bucket Bucket, from, to time.Time) *fault.Error {
	longest := maxDays
	if bucket == Hour {
		longest = maxHours
	}
	switch {
	case !from.Before(to):
		return fault.InvalidField("from", "must be before to, which is now if left out")
	case to.Sub(from) > longest:
		return fault.InvalidField("from", fmt.Sprintf("must be at most %d days before to, in buckets of one %s",
			longest/(24*time.Hour), bucket))
	}
	return nil
}
