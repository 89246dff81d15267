package keymeter

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"
)

// backoff is how long to pause between tries.
type backoff struct{ first, most time.Duration }

// span is the longest pause before the next try, without what Retry-After asks for.
func (b backoff) span(try int) time.Duration {
	span := b.first
	for range try {
		if span >= b.most/2 {
			return b.most
		}
		span *= 2
	}
	return min(span, b.most)
}

// longestWait is what a server may ask to wait at most. Whoever is served meanwhile gets an answer rather than that.
const longestWait = 30 * time.Second

// wait pauses after a try that failed. It returns an error if there is no time left for another one, or if it would be long.
func (b backoff) wait(ctx context.Context, try int, failure error) error {
	pause := rand.N(b.span(try) + 1) //nolint:gosec // spreads retries, and guards no secret
	if e := (*Error)(nil); errors.As(failure, &e) {
		if e.RetryAfter > longestWait {
			return failure
		}
		pause += e.RetryAfter
	}
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < pause {
		return failure // which says more than that the time is over
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w, after: %w", ctx.Err(), failure)
	}
}

// transient is whether a failure may be gone at the next try.
func transient(err error) bool {
	e := (*Error)(nil)
	if !errors.As(err, &e) {
		return true // there was no answer
	}
	if e.Code == ErrorCodeBillingNotConfigured {
		return false
	}
	return e.Status == http.StatusTooManyRequests || e.Status >= 500 || e.Status < 300
}
