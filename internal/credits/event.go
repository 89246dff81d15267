package credits

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"time"

	"github.com/keymeter/keymeter/internal/fault"
	"github.com/keymeter/keymeter/internal/plans"
)

// Event is something that a customer used. ID is unique in its account for ever. Either Credits or Quantity says what
// it costs, unless BYOK makes it free. A nil OccurredAt is now.
//
// Either AccountID or KeyID names the account. A caller that knows whose the key is sets Resolved; then AccountID is
// taken as it is, as are the key's Family and its CreditLimit if there is a KeyID.
type Event struct {
	ID               string
	AccountID, KeyID string
	Resolved         bool
	Family           string
	CreditLimit      *int64 // of the key's own, in each period; nil for none
	Category         plans.Category
	Credits          *int64
	Provider         string
	Quantity, Output *int64
	BYOK             bool
	OccurredAt       *time.Time
}

// Outcome is what became of an event. A refused event left no trace.
type Outcome struct {
	Credits      int64
	Remaining    int64        // to the account after this event, as committed
	KeyRemaining *int64       // of the key's own limit, nil if it has none
	Duplicate    bool         // it had been recorded before; Credits and Late are those of the first time
	Late         bool         // it happened before the billing period that it counts in
	Refusal      *fault.Error // nil if it is recorded
}

// MaxAge is how far back an event may have happened.
const MaxAge = 35 * day

const (
	day = 24 * time.Hour
	// leeway is for callers whose clocks are ahead of ours.
	leeway = 5 * time.Minute

	// none stands for a number that is not there.
	none = -1
	// noLimit is the limit of a key without one.
	noLimit = -1
)

var (
	errExhausted = fault.New(fault.Exhausted, "credits_exhausted",
		"The event costs more credits than remain in this billing period.")
	errKeyLimit = fault.New(fault.Exhausted, "key_limit_exceeded",
		"The event costs more credits than the key's own limit leaves in this billing period.")
	errNoKey = fault.New(fault.NotFound, "key_not_found", "There is no such key.")
)

// draft is an event on its way into the ledger. It holds nothing of the caller's, who may be gone before it is there.
type draft struct {
	id, accountID, keyID, family string
	limit                        int64 // the key's own, or noLimit
	category                     plans.Category
	provider                     string
	quantity, output             int64 // or none
	byok                         bool
	occurredAt                   time.Time // zero: when it is recorded
	cost                         int64
	refusal                      *fault.Error // of an event that was not recorded before
	fingerprint                  fingerprint
	outcome                      Outcome
}

// draft finds the events' accounts and prices. A draft without an account has its outcome: a refusal.
func (c *Credits) draft(ctx context.Context, events []Event) ([]draft, error) {
	var keyIDs []string
	for i := range events {
		if e := &events[i]; !e.Resolved && e.KeyID != "" && e.AccountID == "" {
			keyIDs = append(keyIDs, e.KeyID)
		}
	}
	var owners map[string]owner
	if len(keyIDs) > 0 {
		var err error
		if owners, err = findOwners(ctx, c.pool, keyIDs); err != nil {
			return nil, err
		}
	}
	now := c.now()
	drafts := make([]draft, len(events))
	for i := range events {
		e, d := &events[i], &drafts[i]
		*d = draft{
			id: e.ID, keyID: e.KeyID, category: e.Category, provider: e.Provider, quantity: orElse(e.Quantity, none),
			output: orElse(e.Output, none), byok: e.BYOK, occurredAt: orElse(e.OccurredAt, time.Time{}),
			limit: noLimit, fingerprint: e.fingerprint(),
		}
		if d.outcome.Refusal = d.place(e, owners); d.outcome.Refusal == nil {
			d.cost, d.refusal = c.price(e, now)
		}
	}
	return drafts, nil
}

func (d *draft) place(e *Event, owners map[string]owner) *fault.Error {
	switch {
	case e.Resolved:
		d.accountID, d.family, d.limit = e.AccountID, e.Family, orElse(e.CreditLimit, noLimit)
	case (e.AccountID == "") == (e.KeyID == ""):
		return fault.InvalidField("accountId", "or keyId must be given, and not both")
	case e.KeyID == "":
		d.accountID = e.AccountID
	default:
		found, ok := owners[e.KeyID]
		if !ok {
			return errNoKey
		}
		d.accountID, d.family, d.limit = found.accountID, found.family, found.limit
	}
	return nil
}

// check refuses what the contract's schema can't: the rules between fields, and times.
func (e *Event) check(now time.Time) *fault.Error {
	switch {
	case e.Credits != nil && (e.Provider != "" || e.Quantity != nil || e.Output != nil):
		return fault.InvalidField("credits", "can't stand beside provider, quantity or outputQuantity")
	case e.Credits == nil && e.Quantity == nil && !e.BYOK:
		return fault.InvalidField("quantity", "or credits must be given, unless byok is set")
	case e.Output != nil && e.Category != plans.LLM:
		return fault.InvalidField("outputQuantity", "is only for llm")
	case e.OccurredAt != nil && e.OccurredAt.After(now.Add(leeway)):
		return fault.InvalidField("occurredAt", "is in the future")
	case e.OccurredAt != nil && e.OccurredAt.Before(now.Add(-MaxAge)):
		return fault.InvalidField("occurredAt", "is more than 35 days ago")
	}
	return nil
}

// price checks an event that has not been recorded before and returns what it costs.
func (c *Credits) price(e *Event, now time.Time) (int64, *fault.Error) {
	if refusal := e.check(now); refusal != nil {
		return 0, refusal
	}
	switch {
	case e.BYOK:
		return 0, nil
	case e.Credits != nil:
		return *e.Credits, nil
	}
	usage := plans.Usage{Category: e.Category, Provider: e.Provider, Quantity: *e.Quantity}
	if e.Output != nil {
		usage.Output = *e.Output
	}
	cost, err := c.catalogue.Price(usage)
	var unpriced *plans.PriceError
	if errors.As(err, &unpriced) {
		return 0, fault.InvalidField(unpriced.Field, unpriced.Message)
	}
	return cost, nil
}

// fingerprint is a hash of what the caller sent, by which a retry is told from another event with the same id.
type fingerprint [16]byte

// fingerprint does not tell how the account was named: the id is unique in it anyway, and so a service may repeat what
// it verified as an event.
func (e *Event) fingerprint() fingerprint {
	b := make([]byte, 0, 256)
	for _, s := range [...]string{e.KeyID, string(e.Category), e.Provider} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	for _, n := range [...]*int64{e.Credits, e.Quantity, e.Output} {
		b = appendOptional(b, n)
	}
	b = append(b, 0)
	if e.BYOK {
		b[len(b)-1] = 1
	}
	if e.OccurredAt != nil {
		b = binary.AppendVarint(b, e.OccurredAt.Unix())
		b = binary.AppendUvarint(b, uint64(e.OccurredAt.Nanosecond()))
	}
	return hashed(b)
}

func appendOptional(b []byte, n *int64) []byte {
	if n == nil {
		return append(b, 0)
	}
	return binary.AppendVarint(append(b, 1), *n)
}

func hashed(b []byte) fingerprint {
	sum := sha256.Sum256(b)
	return fingerprint(sum[:len(fingerprint{})])
}
