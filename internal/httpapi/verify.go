package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/keymeter/keymeter/gen/api"
	"github.com/keymeter/keymeter/internal/credits"
	"github.com/keymeter/keymeter/internal/fault"
	"github.com/keymeter/keymeter/internal/keys"
	"github.com/keymeter/keymeter/internal/plans"
	"github.com/keymeter/keymeter/internal/ratelimit"
)

// Verdicts beside those of keys: what rate limits and the ledger say.
const (
	rateLimited      keys.Code = "rate_limited"
	creditsExhausted keys.Code = "credits_exhausted"
	keyLimitExceeded keys.Code = "key_limit_exceeded"
)

// verdict is the answer to a verify. Everything but code may be missing.
type verdict struct {
	code       keys.Code
	known      *keys.Known
	eventID    string
	outcome    *credits.Outcome // only if something was spent
	retryAfter time.Duration
	rates      []rate // the limits that apply, for the header fields
}

type rate struct {
	name     string // "account" or "key"
	limit    ratelimit.Limit
	decision ratelimit.Decision
}

// verify tells whether a key may be used and spends what the request costs: all or nothing. The order is from what
// costs us nothing to what has to be given back to what can't be.
func (s *server) verify(ctx context.Context, r *api.VerifyKeyRequest) (verdict, error) {
	code, known, err := s.Keys.Verify(ctx, r.Key, deref(r.IP), keys.Scope(deref(r.Scope)))
	v := verdict{code: code, known: known}
	if err != nil || code != keys.Valid {
		return v, err
	}
	tokens, err := s.takeTokens(ctx, &v)
	if err == nil && v.code == keys.Valid && r.Cost != nil {
		err = s.spend(ctx, r, &v)
	}
	if err != nil || v.code != keys.Valid { // a call that is refused consumes nothing
		for _, token := range tokens {
			s.Limits.Return(token)
		}
	}
	return v, err
}

// takeTokens takes a request of each rate limit that applies.
func (s *server) takeTokens(ctx context.Context, v *verdict) ([]ratelimit.Token, error) {
	var tokens []ratelimit.Token
	for _, subject := range [...]struct {
		name, id string
		limit    *keys.RateLimit
	}{
		{"account", v.known.AccountID, v.known.Account.RateLimit}, {"key", v.known.Family, v.known.RateLimit},
	} {
		if subject.limit == nil {
			continue
		}
		limit := ratelimit.Limit{Requests: subject.limit.Requests, Window: subject.limit.Window}
		decision, token, err := s.Limits.Take(ctx, subject.id, limit)
		if err != nil {
			return tokens, err
		}
		v.rates = append(v.rates, rate{name: subject.name, limit: limit, decision: decision})
		if !decision.Allowed {
			v.code, v.retryAfter = rateLimited, decision.Reset
			return tokens, nil
		}
		tokens = append(tokens, token)
	}
	return tokens, nil
}

func (s *server) spend(ctx context.Context, r *api.VerifyKeyRequest, v *verdict) error {
	v.eventID = deref(r.EventID)
	if v.eventID == "" {
		v.eventID = s.IDs.New("evt")
	}
	event := costEvent(v.eventID, r.Cost)
	event.AccountID, event.KeyID, event.Family = v.known.AccountID, v.known.KeyID, v.known.Family
	event.CreditLimit, event.Resolved = v.known.CreditLimit, true
	outcomes, err := s.Credits.Spend(ctx, []credits.Event{event})
	if err != nil {
		return err
	}
	outcome := outcomes[0]
	switch {
	case outcome.Refusal == nil:
		v.outcome = &outcome
	case outcome.Refusal.Code == string(creditsExhausted), outcome.Refusal.Code == string(keyLimitExceeded):
		v.code = keys.Code(outcome.Refusal.Code)
	default:
		return costRefusal(outcome.Refusal)
	}
	return nil
}

// costRefusal names the fields of a refused event as they stand in a verify.
func costRefusal(refusal *fault.Error) error {
	if len(refusal.Fields) == 0 {
		return refusal
	}
	fields := make([]fault.Field, len(refusal.Fields))
	for i, f := range refusal.Fields {
		fields[i] = fault.Field{Name: "cost." + f.Name, Message: f.Message}
	}
	return fault.InvalidFields(fields)
}

func costEvent(id string, c *api.Cost) credits.Event {
	return credits.Event{
		ID: id, Category: plans.Category(c.Category), Credits: c.Credits, Provider: deref(c.Provider),
		Quantity: c.Quantity, Output: c.OutputQuantity, BYOK: deref(c.Byok),
	}
}

// VerifyKey answers a verify that is not plain enough for fastVerify.
func (s *server) VerifyKey(ctx context.Context, r api.VerifyKeyRequestObject) (api.VerifyKeyResponseObject, error) {
	v, err := s.verify(ctx, r.Body)
	return verdictResponse{v}, err
}

// verdictResponse writes a verdict as fastVerify does.
type verdictResponse struct{ verdict }

// VisitVerifyKeyResponse is what the generated server calls.
func (v verdictResponse) VisitVerifyKeyResponse(w http.ResponseWriter) error {
	rateHeaders(w.Header(), v.verdict)
	w.Header()["Content-Type"] = jsonType
	_, err := w.Write(appendVerdict(nil, v.verdict))
	return err
}

func deref[T any](p *T) (zero T) {
	if p == nil {
		return zero
	}
	return *p
}
