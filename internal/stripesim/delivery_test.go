package stripesim_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keymeter/keymeter/internal/stripesim"
)

func TestDeliveryInOrderAndSigned(t *testing.T) {
	t.Parallel()
	b := setup(t)
	hook := newReceiver(t, 0)
	b.sim.SetWebhook(hook.URL, testSecret)
	b.run(t)
	b.subscribe(t, "starter")
	b.waitDelivered(t)
	require.Equal(t, append([]string{"customer.created"}, checkoutStory...), hook.types())
	for _, ev := range b.sim.Events() {
		require.Equal(t, stripesim.Delivered, ev.State)
		require.Equal(t, 1, ev.Attempts)
	}
	list := b.do(t, "GET", "/v1/events?type=invoice.paid&delivery_success=true", "")
	require.Len(t, list.body["data"], 1)
	require.Equal(t, float64(0), list.body["data"].([]any)[0].(map[string]any)["pending_webhooks"])
}

func TestDeliveryIsRetried(t *testing.T) {
	t.Parallel()
	b := setup(t)
	hook := newReceiver(t, 2)
	b.sim.SetWebhook(hook.URL, testSecret)
	b.run(t)
	b.customer(t)
	b.customer(t)
	b.waitDelivered(t)
	events := b.sim.Events()
	require.Equal(t, 3, events[0].Attempts)
	require.Equal(t, stripesim.Delivered, events[0].State)
	require.Equal(t, 1, events[1].Attempts)
	hook.mu.Lock()
	defer hook.mu.Unlock()
	require.Equal(t, []string{events[0].ID, events[1].ID}, []string{hook.events[0].ID, hook.events[1].ID}, "order holds across a retry")
}

func TestWrongSecretIsNoticed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	hook := newReceiver(t, 0)
	b.sim.SetWebhook(hook.URL, "whsec_other")
	b.run(t)
	b.customer(t)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, b.sim.WaitDelivered(ctx), context.DeadlineExceeded)
	require.Empty(t, hook.types())
	b.sim.SetWebhook(hook.URL, testSecret)
	b.waitDelivered(t)
	require.Equal(t, []string{"customer.created"}, hook.types())
}

func TestNoReceiverNoDelivery(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.customer(t)
	require.NoError(t, b.sim.WaitDelivered(t.Context()), "nobody is to receive it, and nothing runs")
	require.Equal(t, stripesim.Skipped, b.sim.Events()[0].State)
}

func TestUndeliveredSurvivesARestart(t *testing.T) {
	t.Parallel()
	b := setup(t)
	hook := newReceiver(t, 0)
	b.sim.SetWebhook(hook.URL, testSecret)
	b.customer(t)
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, b.sim.Run(stopped))
	require.Equal(t, stripesim.Pending, b.sim.Events()[0].State)
	require.Len(t, b.do(t, "GET", "/v1/events?delivery_success=false", "").body["data"], 1)
	b.run(t)
	b.waitDelivered(t)
	require.Error(t, b.sim.Run(t.Context()), "two deliverers would break the order")
}

// transport is a receiver without a network, so that its waiting can be virtual.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestGivesUpAfterTenTries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := config(time.Now)
		cfg.WebhookURL, cfg.WebhookSecret = "http://app.test/hook", testSecret
		start := time.Now()
		var at []time.Duration
		cfg.HTTPClient = &http.Client{Transport: transport(func(*http.Request) (*http.Response, error) {
			at = append(at, time.Since(start))
			return nil, errors.New("no route")
		})}
		sim, err := stripesim.New(cfg)
		require.NoError(t, err)
		makeCustomer(t, sim)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- sim.Run(ctx) }()
		require.NoError(t, sim.WaitDelivered(t.Context()))
		cancel()
		require.NoError(t, <-done)

		require.Len(t, at, 10)
		for i, wait := 1, 200*time.Millisecond; i < len(at); i, wait = i+1, 2*wait {
			require.Equal(t, wait, at[i]-at[i-1])
		}
		require.Equal(t, stripesim.GivenUp, sim.Events()[0].State)
	})
}

func TestRunActsOnTheClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sim, err := stripesim.New(config(time.Now))
		require.NoError(t, err)
		cs := makeSession(t, sim)
		require.NotEmpty(t, cs)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- sim.Run(ctx) }()
		time.Sleep(25 * time.Hour) // virtual
		synctest.Wait()
		require.Len(t, sim.Events(), 1)
		require.Equal(t, "checkout.session.expired", sim.Events()[0].Type)
		cancel()
		require.NoError(t, <-done)
	})
}

func TestRedirectIsAFailedDelivery(t *testing.T) {
	t.Parallel()
	b := setup(t)
	followed := newReceiver(t, 0)
	hook := newReceiver(t, 0)
	hook.Config.Handler = http.RedirectHandler(followed.URL, http.StatusTemporaryRedirect)
	b.sim.SetWebhook(hook.URL, testSecret)
	b.run(t)
	b.customer(t)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	require.Error(t, b.sim.WaitDelivered(ctx))
	require.Empty(t, followed.types())
}
