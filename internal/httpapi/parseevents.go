package httpapi

import (
	"context"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/keymeter/keymeter/gen/api"
)

const maxEvents = 1000

type plainEventsKey struct{}

// plainEvents returns the events of a batch that parseEvents has read, nil if it was another kind of body.
func plainEvents(ctx context.Context) []api.UsageEvent {
	events, _ := ctx.Value(plainEventsKey{}).([]api.UsageEvent)
	return events
}

// withPlainEvents reads the body of a request that is a plain batch of events, so that nothing else has to.
func withPlainEvents(r *http.Request) (*http.Request, bool) {
	events, ok := parseEvents(string(rawBody(r.Context())))
	if !ok {
		return r, false
	}
	r = r.WithContext(context.WithValue(r.Context(), plainEventsKey{}, events))
	r.Body = io.NopCloser(strings.NewReader("{}")) // what generated code would decode, for nobody
	return r, true
}

// parseEvents reads a plain batch of events, as parseVerify does a verify: to judge a thousand events by the contract's
// schemas costs more than to record them.
func parseEvents(text string) (events []api.UsageEvent, ok bool) {
	p := plainJSON{text: text}
	p.object(func(field string) bool {
		return field == "events" && events == nil && p.array(func() bool {
			events = append(events, api.UsageEvent{})
			return len(events) <= maxEvents && p.event(&events[len(events)-1])
		})
	})
	return events, p.done() && len(events) > 0
}

func (p *plainJSON) event(e *api.UsageEvent) bool {
	return p.object(func(field string) bool {
		switch field {
		case "id":
			return e.ID == "" && p.stringTo(&e.ID, 128) && printable(e.ID)
		case "accountId":
			return e.AccountID == nil && p.pointer(&e.AccountID, 64) && identifier(*e.AccountID, "acct_")
		case "keyId":
			return e.KeyID == nil && p.pointer(&e.KeyID, 64) && identifier(*e.KeyID, "key_")
		case "category":
			return e.Category == "" && p.stringTo((*string)(&e.Category), 10) && e.Category.Valid()
		case "credits":
			return e.Credits == nil && p.integer(&e.Credits)
		case "quantity":
			return e.Quantity == nil && p.integer(&e.Quantity)
		case "outputQuantity":
			return e.OutputQuantity == nil && p.integer(&e.OutputQuantity)
		case "provider":
			return e.Provider == nil && p.pointer(&e.Provider, 64) && providerName(*e.Provider)
		case "occurredAt":
			return e.OccurredAt == nil && p.instant(&e.OccurredAt)
		}
		return false // byok too: it is rare
	}) && e.ID != "" && e.Category != ""
}

func (p *plainJSON) instant(to **time.Time) bool {
	var text string
	*to = new(time.Time)
	return p.stringTo(&text, 40) && (*to).UnmarshalText([]byte(text)) == nil
}

// array reads an array that is not empty and calls read for each item.
func (p *plainJSON) array(read func() bool) bool {
	if !p.next('[') {
		return p.fail()
	}
	for {
		if !read() {
			return p.fail()
		}
		if p.next(']') {
			return true
		}
		if !p.next(',') {
			return p.fail()
		}
	}
}

func identifier(s, prefix string) bool {
	rest, ok := strings.CutPrefix(s, prefix)
	for i := range len(rest) {
		c := rest[i]
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return ok && rest != ""
}
