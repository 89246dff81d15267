package credits

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
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
	if err == nil && len(points) > maxPoints {
		return nil, fault.InvalidField("from", "begins a range of more than 10,000 points: "+
			"ask for less of it, for longer buckets, for one key or for fewer groups")
	}
	return points, err
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

// EventsQuery says which events to list. A nil From or To is no bound, an empty KeyID or Category is any. Cursor is what
// the page before named as the next one, or empty.
type EventsQuery struct {
	From, To *time.Time // of when they happened
	KeyID    string
	Category plans.Category
	Limit    int
	Cursor   string
}

// RecordedEvent is an event as it stands in the ledger.
type RecordedEvent struct {
	ID               string
	KeyID            string // empty if it names no key
	Category         plans.Category
	Provider         string // empty if the catalogue did not price it
	Quantity, Output *int64
	BYOK, Late       bool
	Credits          int64 // negative for a correction
	Reverses         string
	OccurredAt       time.Time
	RecordedAt       time.Time
}

// Events returns a page of the account's events, the last recorded first, and the cursor of the next page if there is
// more. Who walks the pages sees no event twice, whatever is recorded meanwhile.
func (c *Credits) Events(
	ctx context.Context, accountID string, q EventsQuery,
) (page []RecordedEvent, next string, more bool, err error) {
	if q.From != nil && q.To != nil && !q.From.Before(*q.To) {
		return nil, "", false, fault.InvalidField("from", "must be before to")
	}
	before := place{recordedAt: afterAll}
	if q.Cursor != "" {
		var ok bool
		if before, ok = parsePlace(q.Cursor); !ok {
			return nil, "", false, fault.InvalidField("cursor", "is not the nextCursor of a page")
		}
	}
	events, err := listEvents(ctx, c.pool, accountID, q, before, q.Limit+1)
	if err != nil || len(events) <= q.Limit {
		return events, "", false, err
	}
	page = events[:q.Limit]
	last := page[len(page)-1]
	return page, place{recordedAt: last.RecordedAt, id: last.ID}.cursor(), true, nil
}

// place is a place in the list of events, which is sorted by it, last first.
type place struct {
	recordedAt time.Time
	id         string
}

// afterAll is a time after all that the contract can express.
var afterAll = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)

// cursor is the place as callers see it: opaque, so that they don't make their own.
func (p place) cursor() string {
	encoded := binary.BigEndian.AppendUint64(nil, uint64(p.recordedAt.UnixMicro()))
	return base64.RawURLEncoding.EncodeToString(append(encoded, p.id...))
}

// parsePlace reads a cursor. What it accepts can be put to Postgres: a time that it can hold, and the characters of ids.
func parsePlace(cursor string) (place, bool) {
	decoded, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil || len(decoded) <= 8 {
		return place{}, false
	}
	for _, b := range decoded[8:] {
		if b < '!' || b > '~' {
			return place{}, false
		}
	}
	p := place{recordedAt: time.UnixMicro(int64(binary.BigEndian.Uint64(decoded))).UTC(), id: string(decoded[8:])}
	return p, p.recordedAt.Year() >= 1 && p.recordedAt.Before(afterAll) && p.cursor() == cursor
}
