package credits

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"time"

	"github.com/keymeter/keymeter/internal/fault"
)

// EntryKind is what an entry of the ledger does. The contract lists the kinds.
type EntryKind string

// The kinds of entries.
const (
	GrantEntry   EntryKind = "grant"   // gives credits
	LossEntry    EntryKind = "loss"    // takes unused credits away
	OverageEntry EntryKind = "overage" // bills credits that were used beyond the grants
	UsageEntry   EntryKind = "usage"   // an event
)

// Entry is an entry of an account's ledger. Credits are above 0 where it gives and below where it takes, so that all
// entries add up to what is left.
type Entry struct {
	ID         string
	Kind       EntryKind
	At         time.Time
	Period     int32
	Credits    int64
	Label      string // of a grant its kind, of a loss its cause, of usage its category, of overage the subscription
	GrantID    string // of a grant or a loss
	Reason     string
	ExpiresAt  *time.Time
	UnitMicros int64 // of overage
}

// EntriesQuery says which entries to list. An empty Kind is all.
type EntriesQuery struct {
	Kind   EntryKind
	Limit  int
	Cursor string
}

// Entries returns a page of the account's ledger, the latest entry first, and the cursor of the next page.
func (c *Credits) Entries(ctx context.Context, accountID string, q EntriesQuery) (page []Entry, next string, err error) {
	before := entryPlace{At: afterAll}
	if q.Cursor != "" {
		if before, err = parseEntryPlace(q.Cursor); err != nil {
			return nil, "", err
		}
	}
	kinds := []EntryKind{GrantEntry, LossEntry, OverageEntry, UsageEntry}
	if q.Kind != "" {
		kinds = []EntryKind{q.Kind}
	}
	found, err := listEntries(ctx, c.pool, accountID, kinds, before, q.Limit+1)
	if err != nil || len(found) <= q.Limit {
		return found, "", err
	}
	last := found[q.Limit-1]
	return found[:q.Limit], entryPlace{At: last.At, Kind: last.Kind, ID: last.ID}.cursor(), nil
}

// entryPlace is a place in the ledger.
type entryPlace struct {
	At   time.Time `json:"a"`
	Kind EntryKind `json:"k"`
	ID   string    `json:"i"`
}

func (p entryPlace) cursor() string {
	text, err := json.Marshal(p)
	if err != nil {
		return "" // a time within four digits of years and strings always encode
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

func parseEntryPlace(cursor string) (entryPlace, error) {
	var p entryPlace
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	if err != nil || p.ID == "" {
		return entryPlace{}, fault.InvalidField("cursor", "is not the nextCursor of a page")
	}
	return p, nil
}
