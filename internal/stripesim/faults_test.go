package stripesim_test

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keymeter/keymeter/internal/stripesim"
)

// try sends a request that may get no answer. Its connection is a fresh one, so
// that the client does not send again by itself.
func (b *bundle) try(t *testing.T, method, path string, form url.Values, key string) (status int, err error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, b.url+path+"?"+form.Encode(), nil)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+testKey)
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	req.Close = true
	resp, err := b.http.Do(req)
	if err != nil {
		return 0, err
	}
	require.NoError(t, resp.Body.Close())
	return resp.StatusCode, nil
}

func TestFaultsOfRequests(t *testing.T) {
	t.Parallel()
	named := url.Values{"name": {"A"}}
	for kind, want := range map[stripesim.FaultKind]struct{ status, again, customers int }{
		stripesim.TooManyRequests: {429, 200, 1}, stripesim.Unavailable: {503, 200, 1}, stripesim.ServerError: {500, 500, 0},
		stripesim.ResetBefore: {0, 200, 1}, stripesim.ResetAfter: {0, 200, 1}, stripesim.Delay: {200, 200, 1},
	} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			require.NoError(t, b.sim.AddFault(stripesim.Fault{Kind: kind, Route: "POST /v1/customers", Calls: 1, Delay: time.Millisecond}))
			status, err := b.try(t, "GET", "/v1/customers", nil, "")
			require.NoError(t, err)
			require.Equal(t, 200, status, "another route")
			status, err = b.try(t, "POST", "/v1/customers", named, "k")
			require.Equal(t, want.status == 0, err != nil, err)
			require.Equal(t, want.status, status)
			if kind == stripesim.ResetAfter {
				require.Len(t, b.sim.Events(), 1, "it was done, and the answer was lost")
			}
			if kind == stripesim.ResetBefore {
				require.Empty(t, b.sim.Events())
			}
			status, err = b.try(t, "POST", "/v1/customers", named, "k")
			require.NoError(t, err)
			require.Equal(t, want.again, status)
			require.Len(t, b.sim.Events(), want.customers)
			require.Empty(t, b.sim.Faults())
		})
	}
}

func TestFaultsStayUntilCleared(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, b.sim.AddFault(stripesim.Fault{Kind: stripesim.TooManyRequests, Route: "/v1/p*", RetryAfter: 7 * time.Second}))
	for range 3 {
		a := b.do(t, "GET", "/v1/prices", "")
		require.Equal(t, 429, a.status)
		require.Equal(t, "7", a.header.Get("Retry-After"))
		require.Equal(t, "rate_limit", a.error("code"))
	}
	b.sim.ClearFaults()
	require.Equal(t, 200, b.do(t, "GET", "/v1/prices", "").status)
	require.Error(t, b.sim.AddFault(stripesim.Fault{Kind: "fire"}))
	require.Error(t, b.sim.AddFault(stripesim.Fault{Kind: stripesim.Delay, Calls: -1}))
}

func TestKeyInUse(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, b.sim.AddFault(stripesim.Fault{Kind: stripesim.Delay, Calls: 1, Delay: time.Hour}))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		req, _ := http.NewRequestWithContext(ctx, "POST", b.url+"/v1/customers", nil)
		req.Header.Set("Authorization", "Bearer "+testKey)
		req.Header.Set("Idempotency-Key", "k")
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
		}
	}()
	require.Eventually(t, func() bool { return len(b.sim.Faults()) == 0 }, 10*time.Second, time.Millisecond)
	busy := b.do(t, "POST", "/v1/customers", "", "Idempotency-Key", "k")
	require.Equal(t, 409, busy.status)
	require.Equal(t, "idempotency_error", busy.error("type"))
	require.Equal(t, "idempotency_key_in_use", busy.error("code"))
	require.Equal(t, 200, b.do(t, "POST", "/v1/customers", "", "Idempotency-Key", "another").status)
	cancel()
	<-done
	require.Eventually(t, func() bool {
		return b.do(t, "POST", "/v1/customers", "", "Idempotency-Key", "k").status == 200
	}, 10*time.Second, time.Millisecond, "a conflict is not remembered")
}

func TestFaultsOfWebhooks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	hook := newReceiver(t, 0)
	b.sim.SetWebhook(hook.URL, testSecret)
	for _, f := range []stripesim.Fault{
		{Kind: stripesim.DuplicateWebhook, Route: "invoice.created", Calls: 1},
		{Kind: stripesim.DropWebhook, Route: "payment_intent.*"},
		{Kind: stripesim.DelayWebhook, Route: "customer.created", Delay: 300 * time.Millisecond},
	} {
		require.NoError(t, b.sim.AddFault(f))
	}
	b.run(t)
	began := time.Now()
	b.subscribe(t, "starter")
	b.waitDelivered(t)
	require.GreaterOrEqual(t, time.Since(began), 300*time.Millisecond)
	require.Contains(t, hook.types(), "customer.created") // anywhere: the machine may be slower than the delay
	require.Equal(t, []string{
		"customer.subscription.created", "invoice.created", "invoice.created", "invoice.finalized", "charge.succeeded",
		"invoice.paid", "invoice.payment_succeeded", "customer.subscription.updated", "checkout.session.completed",
	}, slices.DeleteFunc(hook.types(), func(kind string) bool { return kind == "customer.created" }))
	dropped := b.do(t, "GET", "/v1/events?delivery_success=false", "").body["data"].([]any)
	require.Len(t, dropped, 2)
}

func TestHeldDeliveries(t *testing.T) {
	t.Parallel()
	b := setup(t)
	hook := newReceiver(t, 0)
	b.sim.SetWebhook(hook.URL, testSecret)
	b.run(t)
	b.sim.HoldDeliveries()
	b.subscribe(t, "starter")
	events := b.sim.Events()
	last, first := events[len(events)-1], events[0]
	require.NoError(t, b.sim.Deliver(t.Context(), last.ID, first.ID, last.ID))
	require.Equal(t, []string{last.Type, first.Type, last.Type}, hook.types())
	require.Equal(t, stripesim.Delivered, b.sim.Events()[0].State)
	require.Equal(t, stripesim.Pending, b.sim.Events()[1].State)
	require.Error(t, b.sim.Deliver(t.Context(), "evt_x"))
	b.sim.ReleaseDeliveries()
	b.waitDelivered(t)
	require.Len(t, hook.types(), 3+len(events)-2, "what a test delivered is not sent again")
}
