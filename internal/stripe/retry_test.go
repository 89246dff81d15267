package stripe

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keymeter/keymeter/internal/billing"
	"github.com/keymeter/keymeter/internal/fault"
)

// inTurn answers the tries one after the other, and all after the last as the last.
func inTurn(tries *int, steps ...roundTrip) roundTrip {
	return func(req *http.Request) (*http.Response, error) {
		step := steps[min(*tries, len(steps)-1)]
		*tries++
		return step(req)
	}
}

// status answers as Stripe does where it gives no advice.
func status(code int, header ...string) roundTrip {
	return func(req *http.Request) (*http.Response, error) {
		res, err := answers(code, `{"error":{"type":"api_error","message":"not now"}}`)(req)
		res.Header.Del("Stripe-Should-Retry")
		for i := 0; i < len(header); i += 2 {
			res.Header.Set(header[i], header[i+1])
		}
		return res, err
	}
}

func reset(*http.Request) (*http.Response, error) { return nil, errors.New("connection reset") }

// A try that failed for a moment is made again, with its idempotency key.
func TestRetries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		client, sent := newClient(t, inTurn(&tries, reset, plenty()))
		_, err := client.CreateTopUp(context.Background(), billing.TopUp{Key: "k"})
		require.NoError(t, err)
		exchanges := sent.take()
		require.Len(t, exchanges, 2)
		require.Equal(t, "keymeter:top-up:k", exchanges[0].header.Get("Idempotency-Key"))
		require.Equal(t, exchanges[0].header.Values("Idempotency-Key"), exchanges[1].header.Values("Idempotency-Key"))
		require.Equal(t, exchanges[0].form, exchanges[1].form)
	})
}

func TestRetries_schedule(t *testing.T) {
	t.Parallel()
	good := plenty()
	for name, c := range map[string]struct {
		steps  []roundTrip
		tries  int
		took   time.Duration
		failed bool
		after  time.Duration // what the caller is told to wait
	}{
		"at once":                      {[]roundTrip{good}, 1, 0, false, 0},
		"the second time":              {[]roundTrip{reset, good}, 2, backoff, false, 0},
		"the third time":               {[]roundTrip{status(500), status(503), good}, 3, 3 * backoff, false, 0},
		"never":                        {[]roundTrip{status(500)}, 3, 3 * backoff, true, 0},
		"in use by another":            {[]roundTrip{status(409), good}, 2, backoff, false, 0},
		"too many":                     {[]roundTrip{status(429), good}, 2, backoff, false, 0},
		"too many, with a time":        {[]roundTrip{status(429, "Retry-After", "2"), good}, 2, 2 * time.Second, false, 0},
		"too many, with a long time":   {[]roundTrip{status(429, "Retry-After", "60"), good}, 1, 0, true, time.Minute},
		"too many, with a strange one": {[]roundTrip{status(429, "Retry-After", "soon"), good}, 2, backoff, false, 0},
		"too many, all the time":       {[]roundTrip{status(429, "Retry-After", "1")}, 3, 2 * time.Second, true, time.Second},
		"advised against":              {[]roundTrip{status(500, "Stripe-Should-Retry", "false"), good}, 1, 0, true, 0},
		"advised for":                  {[]roundTrip{status(400, "Stripe-Should-Retry", "true"), good}, 2, backoff, false, 0},
		"refused":                      {[]roundTrip{status(400), good}, 1, 0, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tries := 0
				client, _ := newClient(t, inTurn(&tries, c.steps...))
				began := time.Now()
				_, err := client.CreateTopUp(context.Background(), billing.TopUp{Key: "k"})
				require.Equal(t, c.took, time.Since(began))
				require.Equal(t, c.tries, tries)
				require.Equal(t, c.failed, err != nil)
				if c.after != 0 {
					var unavailable *fault.Error
					require.ErrorAs(t, err, &unavailable)
					require.Equal(t, c.after, unavailable.RetryAfter)
				}
			})
		})
	}
}

// However Stripe fails, no call outlasts its context.
func TestRetries_end_with_the_context(t *testing.T) {
	t.Parallel()
	hang := roundTrip(func(req *http.Request) (*http.Response, error) {
		<-req.Context().Done()
		return nil, req.Context().Err()
	})
	for name, step := range map[string]roundTrip{"hanging": hang, "resetting": reset, "overloaded": status(429, "Retry-After", "4")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, given := range []time.Duration{time.Millisecond, 400 * time.Millisecond, time.Second, 12 * time.Second, time.Hour} {
				synctest.Test(t, func(t *testing.T) {
					tries := 0
					client, _ := newClient(t, inTurn(&tries, step))
					ctx, cancel := context.WithTimeout(context.Background(), given)
					defer cancel()
					began := time.Now()
					_, err := client.CreateTopUp(ctx, billing.TopUp{Key: "k"})
					require.ErrorIs(t, err, billing.ErrUnavailable)
					require.LessOrEqual(t, time.Since(began), min(given, callTimeout))
				})
			}
		})
	}
}
