package stripesim

import (
	"maps"
	"net/http"
	"time"
)

// keyLifetime is how long Stripe promises to keep an idempotency key.
const keyLifetime = 24 * time.Hour

// remembered is the first answer given under an idempotency key, and the request
// that got it.
type remembered struct {
	Answer    answer
	RequestID string
	Path      string
	Values    map[string]string
	At        time.Time
}

// exclusively runs a request unless another one runs under the same key. Stripe
// does not wait for that: it is for the caller to try again.
func (s *Sim) exclusively(c *call, run func() answer) answer {
	if c.IdempotencyKey == "" {
		return run()
	}
	if !s.claim(c.IdempotencyKey) {
		return answerError(keyInUse(c.IdempotencyKey))
	}
	defer s.unclaim(c.IdempotencyKey)
	return run()
}

func (s *Sim) claim(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inFlight[key] {
		return false
	}
	s.inFlight[key] = true
	return true
}

func (s *Sim) unclaim(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.inFlight, key)
}

// recall finds the stored answer for a repeated request. The same key with
// another request is an error: it is a mistake in the caller, not a retry.
func (s *Sim) recall(c *call) (old remembered, found bool, err *apiError) {
	old, found = s.remembered[c.IdempotencyKey]
	switch {
	case !found || c.now.Sub(old.At) >= keyLifetime:
		return remembered{}, false, nil
	case old.Path != c.path:
		return old, false, idempotencyError("Keys for idempotent requests can only be used for the same endpoint they were first used for ('" +
			c.path + "' vs '" + old.Path + "'). Try using a key other than '" + c.IdempotencyKey + "' if you meant to execute a different request.")
	case !maps.Equal(old.Values, c.values):
		return old, false, idempotencyError("Keys for idempotent requests can only be used with the same parameters they were first used with. Try using a key other than '" +
			c.IdempotencyKey + "' if you meant to execute a different request.")
	}
	return old, true, nil
}

// remember keeps errors as well as successes: Stripe replays whatever a request
// that was run came to, so a caller needs a new key to try something else.
func (s *Sim) remember(c *call, a answer) {
	if c.IdempotencyKey == "" {
		return
	}
	// A forgotten key must not make the state file grow for ever.
	maps.DeleteFunc(s.remembered, func(_ string, old remembered) bool { return c.now.Sub(old.At) >= keyLifetime })
	s.remembered[c.IdempotencyKey] = remembered{
		Answer: a, RequestID: c.RequestID, Path: c.path, Values: maps.Clone(c.values), At: c.now,
	}
}

func keyInUse(key string) *apiError {
	e := idempotencyError("There is currently another in-progress request using this Idempotent Key (that probably means you submitted twice, and the other request is still going through): " +
		key + ". Please try again later.")
	e.status, e.code = http.StatusConflict, "idempotency_key_in_use"
	return e
}

func idempotencyError(message string) *apiError {
	e := invalid("", message)
	e.kind = "idempotency_error"
	return e
}
