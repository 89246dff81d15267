package stripesim

import (
	"maps"
	"time"
)

// keyLifetime is how long Stripe promises to keep an idempotency key.
const keyLifetime = 24 * time.Hour

// remembered is the first answer given under an idempotency key, and the request
// that got it.
type remembered struct {
	answer    answer
	requestID string
	path      string
	values    map[string]string
	at        time.Time
}

// recall finds the stored answer for a repeated request. The same key with
// another request is an error: it is a mistake in the caller, not a retry.
func (s *Sim) recall(c *call) (old remembered, found bool, err *apiError) {
	old, found = s.remembered[c.idempotencyKey]
	switch {
	case !found || c.now.Sub(old.at) >= keyLifetime:
		return remembered{}, false, nil
	case old.path != c.path:
		return old, false, idempotencyError("Keys for idempotent requests can only be used for the same endpoint they were first used for ('" +
			c.path + "' vs '" + old.path + "'). Try using a key other than '" + c.idempotencyKey + "' if you meant to execute a different request.")
	case !maps.Equal(old.values, c.values):
		return old, false, idempotencyError("Keys for idempotent requests can only be used with the same parameters they were first used with. Try using a key other than '" +
			c.idempotencyKey + "' if you meant to execute a different request.")
	}
	return old, true, nil
}

func (s *Sim) remember(c *call, a answer) {
	if c.idempotencyKey == "" {
		return
	}
	s.remembered[c.idempotencyKey] = remembered{
		answer: a, requestID: c.requestID, path: c.path, values: maps.Clone(c.values), at: c.now,
	}
}

func idempotencyError(message string) *apiError {
	e := invalid("", message)
	e.kind = "idempotency_error"
	return e
}
