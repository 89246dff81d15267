package stripesim_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/webhook"

	"github.com/keymeter/keymeter/internal/stripesim"
)

func TestRegisteredEndpoints(t *testing.T) {
	t.Parallel()
	b := setup(t)
	builtIn := newReceiver(t, 0)
	b.sim.SetWebhook(builtIn.URL, testSecret)
	type received struct {
		body      []byte
		signature string
	}
	got := make(chan received, 20)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- received{body, r.Header.Get("Stripe-Signature")}
	}))
	t.Cleanup(srv.Close)
	ep, err := b.api.WebhookEndpoints.New(&stripe.WebhookEndpointParams{
		URL: stripe.String(srv.URL), EnabledEvents: stripe.StringSlice([]string{"customer.created"}),
		APIVersion: stripe.String("2023-10-16"), Description: stripe.String("Keymeter"),
	})
	require.NoError(t, err)
	require.NotEmpty(t, ep.Secret)
	require.Equal(t, "2023-10-16", ep.APIVersion)
	again, err := b.api.WebhookEndpoints.Get(ep.ID, nil)
	require.NoError(t, err)
	require.Empty(t, again.Secret, "it is shown once")
	require.True(t, b.api.WebhookEndpoints.List(nil).Next())

	require.NoError(t, b.sim.SetPayloadVersion("2025-03-31.basil"))
	b.run(t)
	b.subscribe(t, "starter")
	// The built-in receiver refuses everything, and holds up nobody else.
	require.Eventually(t, func() bool { return len(got) > 0 }, 10*time.Second, time.Millisecond)
	require.Len(t, got, 1, "of all the events it gets one")
	r := <-got
	ev, err := webhook.ConstructEvent(r.body, r.signature, ep.Secret)
	require.NoError(t, err, "an endpoint's version is its own")
	require.Equal(t, "customer.created", string(ev.Type))
	require.Empty(t, builtIn.types(), "this client refuses the account's version")

	_, err = b.api.WebhookEndpoints.Update(ep.ID, &stripe.WebhookEndpointParams{Disabled: stripe.Bool(true)})
	require.NoError(t, err)
	b.customer(t)
	require.Empty(t, got)
	_, err = b.api.WebhookEndpoints.Del(ep.ID, nil)
	require.NoError(t, err)
	require.Equal(t, 404, b.do(t, "GET", "/v1/webhook_endpoints/"+ep.ID, "").status)
	require.Equal(t, 400, b.do(t, "POST", "/v1/webhook_endpoints", "url=http://a.test/").status)
	require.Equal(t, 400, b.do(t, "POST", "/v1/webhook_endpoints", "url=http://a.test/&enabled_events[0]=*&api_version=2019-01-01").status)
}

// lastOf is the data of the last event of a type, as its receiver gets it.
func (b *bundle) lastOf(t *testing.T, kind string) (version string, data map[string]any) {
	t.Helper()
	for _, ev := range b.sim.Events() {
		if ev.Type != kind {
			continue
		}
		var payload struct {
			Version string         `json:"api_version"`
			Data    map[string]any `json:"data"`
		}
		require.NoError(t, json.Unmarshal(ev.Payload, &payload))
		version, data = payload.Version, payload.Data
	}
	require.NotNil(t, data, kind)
	return version, data
}

func TestPayloadVersions(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sub := b.subscribe(t, "starter")
	_, err := b.change(t, sub, "pro", "always_invoice", "allow_incomplete")
	require.NoError(t, err)

	require.NoError(t, b.sim.SetPayloadVersion("2024-09-30.acacia"))
	version, data := b.lastOf(t, "customer.subscription.updated")
	require.Equal(t, "2024-09-30.acacia", version)
	require.Contains(t, data["object"], "current_period_end")

	require.NoError(t, b.sim.SetPayloadVersion("2025-03-31.basil"))
	version, data = b.lastOf(t, "customer.subscription.updated")
	require.Equal(t, "2025-03-31.basil", version)
	require.NotContains(t, data["object"], "current_period_end")
	item := data["object"].(map[string]any)["items"].(map[string]any)["data"].([]any)[0].(map[string]any)
	require.Equal(t, float64(sub.CurrentPeriodEnd), item["current_period_end"])

	_, data = b.lastOf(t, "invoice.paid")
	inv := data["object"].(map[string]any)
	for _, gone := range []string{"subscription", "paid", "charge", "payment_intent"} {
		require.NotContains(t, inv, gone)
	}
	details := inv["parent"].(map[string]any)["subscription_details"].(map[string]any)
	require.Equal(t, sub.ID, details["subscription"])
	line := inv["lines"].(map[string]any)["data"].([]any)[0].(map[string]any)
	require.NotContains(t, line, "price")
	require.Equal(t, b.price(t, "pro").ID, line["pricing"].(map[string]any)["price_details"].(map[string]any)["price"])
	require.Equal(t, sub.ID, line["parent"].(map[string]any)["invoice_item_details"].(map[string]any)["subscription"])

	require.Equal(t, "2025-03-31.basil", b.do(t, "GET", "/v1/events?type=invoice.paid", "").body["data"].([]any)[0].(map[string]any)["api_version"])
	require.Equal(t, version, second(t, b))
	require.Error(t, b.sim.SetPayloadVersion("2019-01-01"))
	require.Error(t, b.sim.SetPayloadVersion("latest"))
}

// second is the version after a restart.
func second(t *testing.T, b *bundle) string {
	t.Helper()
	version, _ := b.restart(t).lastOf(t, "invoice.paid")
	return version
}

func TestEventsAreKeptForThirtyDays(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.customer(t)
	id := b.sim.Events()[0].ID
	b.sim.Advance(30 * aDay)
	require.Equal(t, 200, b.do(t, "GET", "/v1/events/"+id, "").status)
	b.sim.Advance(time.Second)
	b.customer(t)
	require.Equal(t, 404, b.do(t, "GET", "/v1/events/"+id, "").status)
	require.Len(t, b.do(t, "GET", "/v1/events?types[0]=customer.*", "").body["data"], 1)
	require.Len(t, b.do(t, "GET", "/v1/events?type=invoice.*", "").body["data"], 0)
	require.Equal(t, stripesim.Skipped, b.sim.Events()[0].State)
}
