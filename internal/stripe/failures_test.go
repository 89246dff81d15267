package stripe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keymeter/keymeter/internal/billing"
)

// A server that hangs is left at the caller's deadline, whichever call it is.
func TestDeadline(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // a server sees that its client has gone once the body is read
		<-r.Context().Done()
	}))
	t.Cleanup(server.Close)
	for _, c := range calls(t) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			client := New(Config{
				SecretKey: secretKey, WebhookSecrets: []string{"whsec_1"}, APIURL: server.URL + "/", Catalogue: catalogue(t),
				Now: func() time.Time { return now },
			})
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			began := time.Now()
			err := c.do(ctx, client, "k")
			require.Less(t, time.Since(began), 5*time.Second, "far below the adapter's own timeouts")
			require.ErrorIs(t, err, billing.ErrUnavailable)
			require.ErrorIs(t, err, context.DeadlineExceeded)
		})
	}
}

// What a retry may mend is told from what is our own fault. In neither does the key show, although Stripe quotes it.
func TestFailures(t *testing.T) {
	t.Parallel()
	quoting := `{"error":{"type":"%s","code":"%s","message":"Invalid API Key provided: ` + secretKey + `","param":"` +
		`customer","doc_url":"https://stripe.test/` + secretKey + `"}}`
	body := func(kind, code string) string {
		return strings.Replace(strings.Replace(quoting, "%s", kind, 1), "%s", code, 1)
	}
	for _, f := range []struct {
		name        string
		transport   http.RoundTripper
		unavailable bool
	}{
		{"500", answers(500, body("api_error", "")), true},
		{"502, not JSON", answers(502, "<html>Bad Gateway</html>"), true},
		{"503", answers(503, body("api_error", "")), true},
		{"429", answers(429, body("rate_limit_error", "rate_limit")), true},
		{"409", answers(409, body("idempotency_error", "idempotency_key_in_use")), true},
		{"200, not JSON", answers(200, "<html>"), true},
		{"no answer", roundTrip(func(*http.Request) (*http.Response, error) { return nil, errors.New("connection reset") }), true},
		{"400", answers(400, body("invalid_request_error", "parameter_unknown")), false},
		{"401", answers(401, body("invalid_request_error", "")), false},
		{"402", answers(402, body("card_error", "card_declined")), false},
		{"403", answers(403, body("invalid_request_error", "")), false},
	} {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			all := calls(t)
			errs := make([]error, len(all))
			var wg sync.WaitGroup
			for i, c := range all {
				client, _ := newClient(t, f.transport)
				wg.Go(func() {
					// Where there is no answer that says not to try again, the adapter waits; see TestRetries for that.
					ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
					defer cancel()
					errs[i] = c.do(ctx, client, "k")
				})
			}
			wg.Wait()
			for i, err := range errs {
				require.Error(t, err, all[i].name)
				require.Equal(t, f.unavailable, errors.Is(err, billing.ErrUnavailable), "%s: %v", all[i].name, err)
				var refused *billing.Refused
				require.NotEqual(t, f.unavailable, errors.As(err, &refused), "%s: %v", all[i].name, err)
				if refused != nil {
					require.NotEmpty(t, refused.Code)
					require.NotEmpty(t, refused.Message)
					require.Equal(t, f.name == "401" || f.name == "403", refused.Configuration)
				}
				requireNoKey(t, err)
			}
		})
	}
}

// requireNoKey looks for the secret key in all that may be logged of an error.
func requireNoKey(t *testing.T, err error) {
	t.Helper()
	for cause := err; cause != nil; cause = errors.Unwrap(cause) {
		require.NotContains(t, cause.Error(), secretKey)
		require.NotContains(t, fmt.Sprintf("%+v %#v", cause, cause), secretKey)
	}
	encoded, encodeErr := json.Marshal(err)
	require.NoError(t, encodeErr)
	require.NotContains(t, string(encoded), secretKey)
	var refused *billing.Refused
	if errors.As(err, &refused) {
		require.Equal(t, "req_from_stripe", refused.RequestID, "what Stripe's support asks for")
	}
}
