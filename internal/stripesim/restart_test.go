package stripesim_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"

	"github.com/keymeter/keymeter/internal/stripesim"
)

// ask is a request without a network, for simulators that have no server.
func ask(sim *stripesim.Sim, w http.ResponseWriter, method, path, form string, headers ...string) {
	req := httptest.NewRequestWithContext(context.Background(), method, path, strings.NewReader(form))
	req.Header.Set("Authorization", "Bearer "+testKey)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	sim.Handler().ServeHTTP(w, req)
}

func get(t *testing.T, sim *stripesim.Sim, path string) string {
	t.Helper()
	rec := httptest.NewRecorder()
	ask(sim, rec, "GET", path, "")
	require.Equal(t, http.StatusOK, rec.Code, "%s: %s", path, rec.Body)
	return rec.Body.String()
}

// account is everything that can be asked of a simulator: each list, each object
// and the state of each event's delivery.
func account(t *testing.T, sim *stripesim.Sim) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, list := range []string{
		"/v1/customers", "/v1/prices", "/v1/checkout/sessions", "/v1/subscriptions?status=all", "/v1/events",
		"/v1/invoices", "/v1/invoiceitems", "/v1/charges", "/v1/payment_intents", "/v1/webhook_endpoints", "/v1/refunds", "/v1/disputes",
		"/v1/products", "/v1/billing_portal/configurations", "/v1/subscription_schedules",
	} {
		base, _, _ := strings.Cut(list, "?")
		next := list
		for more := true; more; {
			raw := get(t, sim, next)
			out[next] = raw
			var page struct {
				Data []map[string]any
				More bool `json:"has_more"`
			}
			require.NoError(t, json.Unmarshal([]byte(raw), &page))
			for _, item := range page.Data {
				addObject(t, sim, out, base, item)
				next = base + "?starting_after=" + item["id"].(string)
			}
			more = page.More
		}
	}
	events, err := json.Marshal(sim.Events())
	require.NoError(t, err)
	out["events as a test sees them"] = string(events)
	return out
}

func addObject(t *testing.T, sim *stripesim.Sim, out map[string]string, base string, item map[string]any) {
	t.Helper()
	if path := base + "/" + item["id"].(string); item["object"] != "event" { // of those there are many
		out[path] = get(t, sim, path)
	}
	for field, at := range map[string]string{"product": "/v1/products/", "latest_invoice": "/v1/invoices/"} {
		if id, ok := item[field].(string); ok {
			out[at+id] = get(t, sim, at+id)
		}
	}
	if item["object"] == "event" {
		subject := item["data"].(map[string]any)["object"].(map[string]any)
		if subject["object"] == "invoice" {
			path := fmt.Sprint("/v1/invoices/", subject["id"])
			out[path] = get(t, sim, path)
		}
	}
}

// requireSurvives kills the simulator in effect: a second one that knows only
// the file, as it is now, must answer everything with the same bytes.
func requireSurvives(t *testing.T, sim *stripesim.Sim, cfg stripesim.Config) {
	t.Helper()
	sim.Advance() // so that asking finds nothing due
	content, err := os.ReadFile(cfg.StateFile)
	require.NoError(t, err)
	cfg.StateFile = filepath.Join(t.TempDir(), "copy.json")
	require.NoError(t, os.WriteFile(cfg.StateFile, content, 0o600))
	again, err := stripesim.New(cfg)
	require.NoError(t, err)
	requireSame(t, account(t, sim), account(t, again))
}

func requireSame(t *testing.T, want, got map[string]string) {
	t.Helper()
	require.ElementsMatch(t, slices.Collect(maps.Keys(want)), slices.Collect(maps.Keys(got)))
	for what := range want {
		require.Equal(t, want[what], got[what], what)
	}
}

// restart continues from the bundle's file with a new simulator.
func (b *bundle) restart(t *testing.T, change ...func(*stripesim.Config)) *bundle {
	t.Helper()
	cfg := b.cfg
	for _, f := range change {
		f(&cfg)
	}
	sim, err := stripesim.New(cfg)
	require.NoError(t, err)
	srv := httptest.NewServer(sim.Handler())
	t.Cleanup(srv.Close)
	sim.SetBaseURL(srv.URL)
	return &bundle{sim: sim, cfg: cfg, url: srv.URL, clock: b.clock, http: b.http}
}

// runUntilTried runs the simulator until it has tried its first event.
func (b *bundle) runUntilTried(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.sim.Run(ctx) }()
	require.Eventually(t, func() bool { return b.sim.Events()[0].Attempts > 0 }, 10*time.Second, time.Millisecond)
	cancel()
	require.NoError(t, <-done)
}

const awkward = "name=A+%26+B+<%C3%BC>&email=a@example.com&metadata[note]=%22%5C%E2%80%A8"

// TestRestart goes from a customer to a cancellation while nobody receives the
// events, and on from there in a second and a third life.
func TestRestart(t *testing.T) {
	t.Parallel()
	b := setup(t)
	down := httptest.NewServer(http.NotFoundHandler())
	down.Close()
	b.sim.SetWebhook(down.URL, testSecret)

	made := b.do(t, "POST", "/v1/customers", awkward, "Idempotency-Key", "k1")
	cust := &stripe.Customer{ID: made.body["id"].(string)}
	b.runUntilTried(t)
	open, cs := b.checkout(t, nil, "pro"), b.checkout(t, cust, "starter")
	require.Equal(t, http.StatusSeeOther, b.do(t, "POST", page(t, cs.URL)+"/complete", "").status)
	sub := b.api.Subscriptions.List(&stripe.SubscriptionListParams{Customer: stripe.String(cust.ID)})
	require.True(t, sub.Next())
	portal := b.portal(t, sub.Subscription(), nil)
	flow := b.portal(t, sub.Subscription(), b.updateFlow(t, sub.Subscription(), "pro"))
	openFlow := b.portal(t, sub.Subscription(), b.updateFlow(t, sub.Subscription(), "scale"))
	require.Equal(t, http.StatusSeeOther, b.do(t, "POST", flow+"/confirm", "").status)
	cancel := b.do(t, "POST", portal+"/cancel", "when=period_end&subscription="+sub.Subscription().ID)
	require.Equal(t, http.StatusSeeOther, cancel.status)

	second := b.restart(t)
	before := account(t, b.sim)
	requireSame(t, before, account(t, second.sim))
	first := "/v1/events/" + b.sim.Events()[0].ID
	for _, path := range []string{page(t, open.URL), portal, flow, openFlow, first} {
		require.Equal(t, b.do(t, "GET", path, "").raw, second.do(t, "GET", path, "").raw)
	}
	require.Equal(t, stripesim.Pending, second.sim.Events()[0].State)
	require.Positive(t, second.sim.Events()[0].Attempts)

	portals := "/v1/billing_portal/sessions"
	require.Equal(t, b.do(t, "POST", portals, "customer="+cust.ID).body["configuration"],
		second.do(t, "POST", portals, "customer="+cust.ID).body["configuration"])

	replay := second.do(t, "POST", "/v1/customers", awkward, "Idempotency-Key", "k1")
	require.Equal(t, made.raw, replay.raw)
	require.Equal(t, "true", replay.header.Get("Idempotent-Replayed"))
	require.Equal(t, made.header.Get("Request-Id"), replay.header.Get("Original-Request"))
	other := second.do(t, "POST", "/v1/customers", "name=C", "Idempotency-Key", "k1")
	require.Equal(t, "idempotency_error", other.error("type"))
	requireSame(t, before, account(t, second.sim)) // a replay makes nothing

	continueDelivery(t, second)
	continueLife(t, second, page(t, open.URL), openFlow, sub.Subscription())
	b.sim = second.sim // the first is dead
}

// continueDelivery shows that what was pending arrives once and in order, and is
// not sent again by a third life.
func continueDelivery(t *testing.T, b *bundle) {
	t.Helper()
	hook := newReceiver(t, 0)
	b.sim.SetWebhook(hook.URL, testSecret)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.sim.Run(ctx) }()
	b.waitDelivered(t)
	cancel()
	require.NoError(t, <-done)
	requireDelivered := func(events []stripesim.Event) {
		t.Helper()
		hook.mu.Lock()
		defer hook.mu.Unlock()
		require.Equal(t, len(events), hook.tries)
		for i, ev := range events {
			require.Equal(t, ev.ID, hook.events[i].ID)
			require.Equal(t, string(ev.Payload), hook.bodies[i])
			require.Equal(t, stripesim.Delivered, ev.State)
		}
	}
	requireDelivered(b.sim.Events())

	third := b.restart(t)
	third.sim.SetWebhook(hook.URL, testSecret)
	ctx, cancel = context.WithCancel(t.Context())
	go func() { done <- third.sim.Run(ctx) }()
	third.waitDelivered(t)
	cancel()
	require.NoError(t, <-done)
	requireDelivered(third.sim.Events())
}

// continueLife shows that the objects of the file are alive: they are the very
// ones that pages and the clock act on.
func continueLife(t *testing.T, b *bundle, openCheckout, openFlow string, sub *stripe.Subscription) {
	t.Helper()
	require.Equal(t, http.StatusSeeOther, b.do(t, "POST", openCheckout+"/complete", "email=b@example.com").status)
	require.Equal(t, http.StatusSeeOther, b.do(t, "POST", openFlow+"/confirm", "").status)
	changed := b.do(t, "GET", "/v1/subscriptions/"+sub.ID, "").body
	item := changed["items"].(map[string]any)["data"].([]any)[0].(map[string]any)
	require.Equal(t, "scale", item["price"].(map[string]any)["lookup_key"])
	shown := b.do(t, "GET", b.portalOf(t, sub.Customer.ID), "").raw
	require.Contains(t, shown, "Scale</strong>")
	require.NotContains(t, shown, "Change to Scale", "it is there already")

	b.do(t, "POST", "/v1/customers/"+sub.Customer.ID, "email=moved@example.com")
	inv := b.do(t, "GET", "/v1/invoices/"+sub.LatestInvoice.ID, "").body
	require.Equal(t, "moved@example.com", inv["customer_email"])
	sessions := b.do(t, "GET", "/v1/checkout/sessions?customer="+sub.Customer.ID, "").body["data"].([]any)
	require.Equal(t, "moved@example.com", sessions[0].(map[string]any)["customer_details"].(map[string]any)["email"])

	b.clock.Set(time.Unix(sub.CurrentPeriodEnd, 0).Add(time.Hour))
	ended := b.do(t, "GET", "/v1/subscriptions/"+sub.ID, "").body
	require.Equal(t, "canceled", ended["status"])
	list := b.do(t, "GET", "/v1/subscriptions", "").body["data"].([]any)
	require.Len(t, list, 1, "the other one renewed")
	shown = b.do(t, "GET", b.portalOf(t, list[0].(map[string]any)["customer"].(string)), "").raw
	require.NotContains(t, shown, "Change to Pro", "it was bought in a session of the first life")
	cust := b.do(t, "GET", fmt.Sprint("/v1/customers/", list[0].(map[string]any)["customer"]), "").body
	require.Equal(t, float64(3), cust["next_invoice_sequence"])
}

func (b *bundle) portalOf(t *testing.T, customer string) string {
	t.Helper()
	return page(t, b.do(t, "POST", "/v1/billing_portal/sessions", "customer="+customer).body["url"].(string))
}

// TestIDsAreNotMadeAgain uses entropy that each life repeats from its start.
func TestIDsAreNotMadeAgain(t *testing.T) {
	t.Parallel()
	cfg := config(time.Now)
	cfg.StateFile = filepath.Join(t.TempDir(), "stripe.json")
	seen := map[any]bool{}
	const lives, each = 3, 4
	for range lives {
		cfg.Rand = &repeating{}
		sim, err := stripesim.New(cfg)
		require.NoError(t, err)
		for range each {
			seen[direct(t, sim, "POST", "/v1/customers", "name=A")["id"]] = true
		}
	}
	require.Len(t, seen, lives*each)
	sim, err := stripesim.New(cfg)
	require.NoError(t, err)
	var list struct{ Data []any }
	require.NoError(t, json.Unmarshal([]byte(get(t, sim, "/v1/customers?limit=100")), &list))
	require.Len(t, list.Data, lives*each)
}

// repeating counts: 0, 1, 2 and so on, one number per read.
type repeating struct{ n byte }

func (r *repeating) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = r.n
	}
	r.n++
	return len(p), nil
}

var _ io.Reader = (*repeating)(nil)

func TestRememberedKeysEnd(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.do(t, "POST", "/v1/customers", "name=A", "Idempotency-Key", "key-of-the-first-day")
	b.clock.Set(b.clock.Now().Add(24 * time.Hour))
	second := b.restart(t)
	b.sim = second.sim // the first is dead
	again := second.do(t, "POST", "/v1/customers", "name=A", "Idempotency-Key", "key-of-the-first-day")
	require.NotEqual(t, first.body["id"], again.body["id"])
	b.clock.Set(b.clock.Now().Add(24 * time.Hour))
	second.do(t, "POST", "/v1/customers", "name=A", "Idempotency-Key", "another")
	content, err := os.ReadFile(b.cfg.StateFile)
	require.NoError(t, err)
	var state struct{ Remembered map[string]any }
	require.NoError(t, json.Unmarshal(content, &state))
	require.Len(t, state.Remembered, 1, "what nobody may replay is not kept")
}
