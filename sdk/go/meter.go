package keymeter

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// Meter stands before handlers. For each request it verifies the customer's key and spends or holds credits, and lets
// through what may be served. Handlers find the [Verdict] in the request's context.
//
// What must not be served is answered with a problem document: 401, 402, 403 or 429. If nothing is known, as Keymeter
// can't be reached or refuses this service's own token, the answer is a 503, and never a refusal.
//
// The customer's key is taken out of the request, so that it does not get into logs further on.
type Meter struct {
	// Client has a service token.
	Client *Client

	// Scope is what the key must be good for. Any key will do if it is empty.
	Scope Scope

	// Cost is what each request costs, spent before it is served. If it is known only later, leave it out and let the
	// handler call [Verdict.Record], or set Hold.
	Cost *Cost

	// Hold holds credits while a request is served, for the handler to [Verdict.Settle]. What it does not settle is
	// released. A Meter has a Cost or a Hold, not both.
	Hold *Hold

	// KeyHeader is the header with the customer's key, such as X-API-Key. If it is empty, the key is a bearer token in
	// Authorization.
	KeyHeader string

	// EventIDHeader is a header with an id of the request that stays the same if it is tried again, such as
	// X-Request-Id, so that it counts once. Set it only if your own proxy sets the header: who chooses the id can have
	// requests counted once and served often. If it is empty, each request has a random id.
	EventIDHeader string

	// ClientIP is the customer's address, for keys with an allow-list. If it is nil, it is the address of the
	// connection: behind a proxy, say here which header has it.
	ClientIP func(*http.Request) string

	// Answer answers a request that is not served. If it is nil, [Refusal.ServeHTTP] does.
	Answer func(http.ResponseWriter, *http.Request, *Refusal)

	// Report is told of each failure that is not the customer's. If it is nil, they are logged with [slog.Default].
	Report func(context.Context, error)
}

// Hold is how many credits to hold, for how long at most. They are held for 5 minutes if TTL is 0.
type Hold struct {
	Category Category
	Credits  int64
	TTL      time.Duration
}

// Wrap is next behind the meter. It panics if the Meter is not complete.
func (m *Meter) Wrap(next http.Handler) http.Handler {
	if m.Client == nil || (m.Cost != nil && m.Hold != nil) {
		panic("keymeter: a Meter needs a Client, and has a Cost or a Hold, not both")
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		verdict, refusal := m.admit(r)
		if refusal != nil {
			m.answer(w, r, refusal)
			return
		}
		defer verdict.release(r.Context())
		r = r.WithContext(context.WithValue(r.Context(), verdictKey{}, verdict))
		r.Header = r.Header.Clone()
		r.Header.Del(m.keyHeader())
		next.ServeHTTP(w, r)
	})
}

// admit asks Keymeter whether a request may be served.
func (m *Meter) admit(r *http.Request) (*Verdict, *Refusal) {
	key := m.key(r)
	if key == "" {
		return nil, m.unauthorized("missing_credential", "The request has no API key.")
	}
	if len(key) > 255 { // which no key is
		return nil, m.unauthorized("invalid_credential", "The API key is not valid.")
	}
	v := &Verdict{meter: m, EventID: m.eventID(r)}
	body := VerifyKeyRequest{Key: key, Cost: m.Cost, IP: m.ip(r)}
	if m.Cost != nil {
		body.EventID = &v.EventID
	}
	if m.Scope != "" {
		body.Scope = &m.Scope
	}
	result, err := m.Client.VerifyKey(r.Context(), body)
	if err != nil {
		return nil, m.unknown(r.Context(), err)
	}
	if !result.Valid {
		return nil, m.refusal(result)
	}
	v.Result = *result
	if err := v.hold(r.Context()); err != nil {
		return nil, m.refusalOf(r.Context(), err)
	}
	return v, nil
}

func (m *Meter) keyHeader() string {
	if m.KeyHeader == "" {
		return "Authorization"
	}
	return m.KeyHeader
}

// key is the customer's key, "" if the request has none.
func (m *Meter) key(r *http.Request) string {
	value := strings.TrimSpace(r.Header.Get(m.keyHeader()))
	if m.KeyHeader != "" {
		return value
	}
	scheme, token, _ := strings.Cut(value, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// eventID is an id for what the request costs. It leaves room for what Record adds.
func (m *Meter) eventID(r *http.Request) string {
	if m.EventIDHeader != "" {
		if id := r.Header.Get(m.EventIDHeader); id != "" && len(id) <= 100 && printable(id) {
			return id
		}
	}
	return m.Client.newID()
}

func printable(id string) bool {
	return strings.IndexFunc(id, func(c rune) bool { return c < '!' || c > '~' }) < 0
}

func (m *Meter) ip(r *http.Request) *string {
	var address string
	if m.ClientIP != nil {
		address = m.ClientIP(r)
	} else if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		address = host
	}
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return nil
	}
	return Ptr(ip.WithZone("").String())
}

func (m *Meter) report(ctx context.Context, err error) {
	if m.Report != nil {
		m.Report(ctx, err)
		return
	}
	slog.ErrorContext(ctx, "a request could not be metered", "error", err)
}

func (m *Meter) answer(w http.ResponseWriter, r *http.Request, refusal *Refusal) {
	if m.Answer != nil {
		m.Answer(w, r, refusal)
		return
	}
	refusal.ServeHTTP(w, r)
}
