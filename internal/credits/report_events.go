package credits

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"time"

	"github.com/keymeter/keymeter/internal/fault"
	"github.com/keymeter/keymeter/internal/plans"
)

const (
	// A request looks at the events maxRounds times, and each time at maxEventLooks of them at most: what it costs does not
	// depend on how many events of an account do not match.
	maxRounds     = 4
	maxEventLooks = 4000
	// maxHourLooks and maxBelatedLooks are how much is looked at to find where to look for events.
	maxHourLooks    = 3000
	maxBelatedLooks = 3000
	// belated is how long after it happened an event is recorded if it is one of the few that usage_events_belated has.
	belated = 10 * time.Minute
)

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

// recordedFrom is when the first event that matches can have been recorded: after it happened, or little before.
func (q EventsQuery) recordedFrom() time.Time {
	if q.From == nil {
		return time.Time{}
	}
	return q.From.Add(-leeway)
}

// Events returns a page of the account's events, the last recorded first, and the cursor of the next page if there may be
// more. Who walks the pages sees no event twice, whatever is recorded meanwhile.
//
// A page has fewer events than the limit, or none, if those that match are few among many: then the next one goes on.
func (c *Credits) Events(
	ctx context.Context, accountID string, q EventsQuery,
) (page []RecordedEvent, next string, more bool, err error) {
	if q.From != nil && q.To != nil && !q.From.Before(*q.To) {
		return nil, "", false, fault.InvalidField("from", "must be before to")
	}
	at := place{recordedAt: afterAll}
	if q.Cursor != "" {
		var ok bool
		if at, ok = parsePlace(q.Cursor); !ok {
			return nil, "", false, fault.InvalidField("cursor", "is not the nextCursor of a page")
		}
	}
	for range maxRounds {
		start, ok, err := c.skip(ctx, accountID, q, at)
		if err != nil || !ok {
			return page, "", false, err
		}
		found, reached, err := listEvents(ctx, c.pool, accountID, q, start, q.Limit+1-len(page))
		if err != nil {
			return nil, "", false, err
		}
		page = append(page, found...)
		if len(page) > q.Limit {
			page = page[:q.Limit]
			last := page[len(page)-1]
			return page, place{recordedAt: last.RecordedAt, id: last.ID}.cursor(), true, nil
		}
		if reached == nil {
			return page, "", false, nil
		}
		at = *reached
	}
	return page, at.cursor(), true, nil
}

// skip returns a place that is as far after the given one as it can tell that no event between them matches. It reports
// whether there may be one after it.
//
// An event that was recorded soon after it happened stands near its hour, and of each hour there are totals. The few others
// have an index.
func (c *Credits) skip(ctx context.Context, accountID string, q EventsQuery, at place) (place, bool, error) {
	if q.KeyID == "" && q.Category == "" && q.To == nil {
		return at, true, nil
	}
	earliest, latest := time.Time{}, at.recordedAt.Add(leeway)
	if q.From != nil {
		earliest = q.From.UTC().Truncate(time.Hour)
	}
	if q.To != nil && q.To.Before(latest) {
		latest = q.To.Add(-time.Microsecond)
	}
	hour, err := latestHour(ctx, c.pool, accountID, q, earliest, latest)
	if err != nil {
		return at, false, err
	}
	late, err := latestBelated(ctx, c.pool, accountID, q, at.recordedAt)
	if err != nil || hour.IsZero() && late.IsZero() {
		return at, false, err
	}
	until := late.Add(time.Microsecond)
	if !hour.IsZero() {
		happened := hour.Add(time.Hour)
		if q.To != nil && q.To.Before(happened) {
			happened = *q.To
		}
		if recorded := happened.Add(belated); recorded.After(until) {
			until = recorded
		}
	}
	if until.Before(at.recordedAt) {
		at = place{recordedAt: until}
	}
	return at, true, nil
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
