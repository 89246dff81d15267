package stripesim_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/client"
	"github.com/stripe/stripe-go/v76/webhook"

	"github.com/keymeter/keymeter/internal/stripesim"
)

const (
	testKey    = "sk_test_simulator"
	testSecret = "whsec_simulator"
)

// clock is a clock that a test can move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Set(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = now
}

// bundle is one simulator behind a server, with the real client of 2023-10-16 in
// front of it. Every answer is checked against Stripe's description.
type bundle struct {
	sim   *stripesim.Sim
	cfg   stripesim.Config
	url   string
	clock *clock
	http  *http.Client
	api   *client.API
}

func config(now func() time.Time) stripesim.Config {
	return stripesim.Config{
		SecretKey: testKey, Now: now, Rand: rand.Reader, Logger: slog.New(slog.DiscardHandler),
		Prices: []stripesim.Price{
			{LookupKey: "starter", ProductName: "Starter", UnitAmount: 1900, Metadata: map[string]string{"tier": "starter"}},
			{LookupKey: "pro", ProductName: "Pro", UnitAmount: 9900},
			{LookupKey: "scale", ProductName: "Scale", UnitAmount: 49900},
		},
	}
}

// setup makes a simulator that must have left all it knows in its state file when
// the test is over, whatever the test did to it.
func setup(t *testing.T) *bundle {
	t.Helper()
	clk := &clock{now: time.Now().UTC()}
	cfg := config(clk.Now)
	cfg.StateFile = filepath.Join(t.TempDir(), "stripe.json")
	sim, err := stripesim.New(cfg)
	require.NoError(t, err)
	srv := httptest.NewServer(sim.Handler())
	t.Cleanup(srv.Close)
	sim.SetBaseURL(srv.URL)
	httpClient := &http.Client{
		Transport:     validating{t},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	backend := func() stripe.Backend {
		return stripe.GetBackendWithConfig(stripe.APIBackend, &stripe.BackendConfig{
			URL: stripe.String(srv.URL), HTTPClient: httpClient, MaxNetworkRetries: stripe.Int64(0),
			EnableTelemetry: stripe.Bool(false), LeveledLogger: &stripe.LeveledLogger{Level: stripe.LevelNull},
		})
	}
	b := &bundle{
		sim: sim, cfg: cfg, url: srv.URL, clock: clk, http: httpClient,
		api: client.New(testKey, &stripe.Backends{API: backend(), Connect: backend(), Uploads: backend()}),
	}
	t.Cleanup(func() { requireSurvives(t, b.sim, b.cfg) })
	return b
}

// run delivers webhooks until the test is over.
func (b *bundle) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.sim.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
}

func (b *bundle) waitDelivered(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	require.NoError(t, b.sim.WaitDelivered(ctx))
}

func (b *bundle) price(t *testing.T, lookupKey string) *stripe.Price {
	t.Helper()
	it := b.api.Prices.List(&stripe.PriceListParams{LookupKeys: stripe.StringSlice([]string{lookupKey})})
	require.True(t, it.Next(), "price %s: %v", lookupKey, it.Err())
	return it.Price()
}

func (b *bundle) customer(t *testing.T) *stripe.Customer {
	t.Helper()
	cust, err := b.api.Customers.New(&stripe.CustomerParams{Metadata: map[string]string{"account_id": "acct_1"}})
	require.NoError(t, err)
	return cust
}

func (b *bundle) checkout(t *testing.T, cust *stripe.Customer, lookupKey string) *stripe.CheckoutSession {
	t.Helper()
	params := &stripe.CheckoutSessionParams{
		Mode:              stripe.String("subscription"),
		LineItems:         []*stripe.CheckoutSessionLineItemParams{{Price: stripe.String(b.price(t, lookupKey).ID), Quantity: stripe.Int64(1)}},
		SuccessURL:        stripe.String("http://app.test/done?session_id={CHECKOUT_SESSION_ID}"),
		CancelURL:         stripe.String("http://app.test/plans"),
		ClientReferenceID: stripe.String("acct_1"),
		SubscriptionData:  &stripe.CheckoutSessionSubscriptionDataParams{Metadata: map[string]string{"account_id": "acct_1"}},
	}
	if cust != nil {
		params.Customer = stripe.String(cust.ID)
	}
	cs, err := b.api.CheckoutSessions.New(params)
	require.NoError(t, err)
	return cs
}

// subscribe buys a plan and returns the subscription.
func (b *bundle) subscribe(t *testing.T, lookupKey string) *stripe.Subscription {
	t.Helper()
	cust := b.customer(t)
	require.NoError(t, b.sim.CompleteCheckout(b.checkout(t, cust, lookupKey).ID))
	it := b.api.Subscriptions.List(&stripe.SubscriptionListParams{Customer: stripe.String(cust.ID)})
	require.True(t, it.Next(), it.Err())
	return it.Subscription()
}

// eventTypes lists what happened after the first n events.
func (b *bundle) eventTypes(n int) []string {
	var out []string
	for _, ev := range b.sim.Events()[n:] {
		out = append(out, ev.Type)
	}
	return out
}

type answer struct {
	status int
	header http.Header
	raw    string
	body   map[string]any
}

func (a answer) error(field string) any {
	inner, _ := a.body["error"].(map[string]any)
	return inner[field]
}

// do sends a request as curl would. Headers come in pairs.
func (b *bundle) do(t *testing.T, method, path, form string, headers ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, b.url+path, strings.NewReader(form))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+testKey)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := b.http.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	a := answer{status: resp.StatusCode, header: resp.Header, raw: string(raw)}
	if strings.HasPrefix(path, "/v1/") {
		require.NoError(t, json.Unmarshal(raw, &a.body))
	}
	return a
}

// page is the path of a hosted page's URL.
func page(t *testing.T, raw string) string {
	t.Helper()
	u, err := url.Parse(raw)
	require.NoError(t, err)
	return u.Path
}

// receiver is a webhook endpoint that verifies with Stripe's own code.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	fail   int // how many deliveries to refuse first
	tries  int
	events []stripe.Event
	bodies []string
}

func newReceiver(t *testing.T, fail int) *receiver {
	t.Helper()
	r := &receiver{fail: fail}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		ev, err := webhook.ConstructEvent(body, req.Header.Get("Stripe-Signature"), testSecret)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.tries++
		switch {
		case err != nil:
			http.Error(w, err.Error(), http.StatusBadRequest)
		case r.tries <= r.fail:
			http.Error(w, "not now", http.StatusInternalServerError)
		default:
			r.events, r.bodies = append(r.events, ev), append(r.bodies, string(body))
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) types() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, ev := range r.events {
		out = append(out, string(ev.Type))
	}
	return out
}

// direct calls the handler without a network.
func direct(t *testing.T, sim *stripesim.Sim, method, path, form string) map[string]any {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(form))
	req.Header.Set("Authorization", "Bearer "+testKey)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	rec := httptest.NewRecorder()
	sim.Handler().ServeHTTP(rec, req)
	require.Equal(t, http.StatusOK, rec.Code, rec.Body.String())
	var body map[string]any
	require.NoError(t, json.Unmarshal(rec.Body.Bytes(), &body))
	return body
}

func makeCustomer(t *testing.T, sim *stripesim.Sim) {
	t.Helper()
	direct(t, sim, "POST", "/v1/customers", "name=A")
}

func makeSession(t *testing.T, sim *stripesim.Sim) string {
	t.Helper()
	prices := direct(t, sim, "GET", "/v1/prices", "")
	price := prices["data"].([]any)[0].(map[string]any)["id"].(string)
	cs := direct(t, sim, "POST", "/v1/checkout/sessions",
		"mode=subscription&success_url=http://a.test/&line_items[0][quantity]=1&line_items[0][price]="+price)
	return cs["id"].(string)
}
