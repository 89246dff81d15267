package stripe

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	stripego "github.com/stripe/stripe-go/v76"

	"github.com/keymeter/keymeter/internal/billing"
	"github.com/keymeter/keymeter/internal/plans"
	"github.com/keymeter/keymeter/internal/stripesim"
)

// world is a Stripe to hold the adapter against, with what only its test helpers can do.
type world interface {
	// stripe returns the adapter.
	stripe() *Client
	// named makes a name that this Stripe has not seen before.
	named(name string) string
	// customer creates a customer of the account who has a card, and whose time can pass.
	customer(t *testing.T, accountID string) string
	// now is the time of the customer.
	now(t *testing.T, customerID string) time.Time
	// advance lets the customer's time pass.
	advance(t *testing.T, customerID string, d time.Duration)
	// pay pays a Checkout session. It reports whether that can be done without a browser.
	pay(t *testing.T, sessionID string) bool
	// confirm confirms what a portal session asks. It reports whether that can be done without a browser.
	confirm(t *testing.T, session billing.Session) bool
	// dispute disputes a payment and loses or wins. It reports whether that can be done.
	dispute(t *testing.T, paymentIntentID string, won bool) bool
}

// simulated is the simulator.
type simulated struct {
	client *Client
	sim    *stripesim.Sim
}

func newSimulated(t *testing.T) world {
	t.Helper()
	start := time.Date(2026, 1, 31, 10, 30, 15, 0, time.UTC)
	sim, err := stripesim.New(stripesim.Config{
		SecretKey: secretKey, BaseURL: "http://stripe.test", Now: func() time.Time { return start }, Rand: rand.Reader,
		Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	client := New(Config{
		SecretKey: secretKey, WebhookSecrets: []string{"whsec_1"}, APIURL: "http://stripe.test", Catalogue: catalogue(t), Now: sim.Now,
		Transport: handled(sim.Handler().ServeHTTP),
	})
	return &simulated{client, sim}
}

// handled is the way to a handler, without a network.
func handled(handle http.HandlerFunc) roundTrip {
	return func(req *http.Request) (*http.Response, error) {
		// What a server gets of a client's request.
		received := httptest.NewRequestWithContext(req.Context(), req.Method, req.URL.RequestURI(), http.NoBody)
		if req.Body != nil {
			received.Body = req.Body
		}
		received.Header = req.Header.Clone()
		w := httptest.NewRecorder()
		handle(w, received)
		res := w.Result()
		res.Request = req
		return res, nil
	}
}

func (s *simulated) stripe() *Client { return s.client }

func (s *simulated) named(name string) string { return name }

func (s *simulated) customer(t *testing.T, accountID string) string {
	t.Helper()
	id, err := s.client.CreateCustomer(t.Context(), contact(accountID))
	require.NoError(t, err)
	return id
}

func (s *simulated) now(*testing.T, string) time.Time { return s.sim.Now() }

func (s *simulated) advance(_ *testing.T, _ string, d time.Duration) { s.sim.Advance(d) }

func (s *simulated) pay(t *testing.T, sessionID string) bool {
	t.Helper()
	require.NoError(t, s.sim.CompleteCheckout(sessionID))
	return true
}

func (s *simulated) confirm(t *testing.T, session billing.Session) bool {
	t.Helper()
	w := httptest.NewRecorder()
	s.sim.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, session.URL+"/confirm", http.NoBody))
	require.Equal(t, http.StatusSeeOther, w.Code, w.Body)
	return true
}

func (s *simulated) dispute(t *testing.T, paymentIntentID string, won bool) bool {
	t.Helper()
	id, err := s.sim.OpenDispute(paymentIntentID)
	require.NoError(t, err)
	require.NoError(t, s.sim.CloseDispute(id, won))
	return true
}

// real is Stripe itself, in test mode. What it creates stays there, but for the test clocks and what hangs on them.
type real struct {
	client *Client
	run    string            // makes names of this run
	clocks map[string]string // of customers
}

func newReal(t *testing.T, key string) world {
	t.Helper()
	return &real{
		client: New(Config{SecretKey: key, WebhookSecrets: []string{"whsec_1"}, Catalogue: catalogue(t), Now: time.Now}),
		run:    strconv.FormatInt(time.Now().UnixNano(), 36), clocks: map[string]string{},
	}
}

func (r *real) stripe() *Client { return r.client }

func (r *real) named(name string) string { return name + "_" + r.run }

func (r *real) customer(t *testing.T, accountID string) string {
	t.Helper()
	clock, err := r.client.api.TestHelpersTestClocks.New(&stripego.TestHelpersTestClockParams{
		Params: read(t.Context()), FrozenTime: stripego.Int64(time.Now().Unix()), Name: stripego.String("Keymeter conformance"),
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := r.client.api.TestHelpersTestClocks.Del(clock.ID, &stripego.TestHelpersTestClockParams{Params: read(context.Background())})
		require.NoError(t, err)
	})
	customer, err := r.client.api.Customers.New(&stripego.CustomerParams{
		Params: read(t.Context()), TestClock: stripego.String(clock.ID), PaymentMethod: stripego.String("pm_card_visa"),
		InvoiceSettings: &stripego.CustomerInvoiceSettingsParams{DefaultPaymentMethod: stripego.String("pm_card_visa")},
		Metadata:        map[string]string{accountMetadata: accountID},
	})
	require.NoError(t, err)
	r.clocks[customer.ID] = clock.ID
	return customer.ID
}

func (r *real) clock(t *testing.T, customerID string) *stripego.TestHelpersTestClock {
	t.Helper()
	clock, err := r.client.api.TestHelpersTestClocks.Get(r.clocks[customerID], &stripego.TestHelpersTestClockParams{Params: read(t.Context())})
	require.NoError(t, err)
	return clock
}

func (r *real) now(t *testing.T, customerID string) time.Time {
	return at(r.clock(t, customerID).FrozenTime)
}

// advance waits until Stripe has done what has become due, which takes it some time.
func (r *real) advance(t *testing.T, customerID string, d time.Duration) {
	t.Helper()
	_, err := r.client.api.TestHelpersTestClocks.Advance(r.clocks[customerID], &stripego.TestHelpersTestClockAdvanceParams{
		Params: read(t.Context()), FrozenTime: stripego.Int64(r.now(t, customerID).Add(d).Unix()),
	})
	require.NoError(t, err)
	for r.clock(t, customerID).Status != stripego.TestHelpersTestClockStatusReady {
		require.True(t, sleep(t.Context(), 2*time.Second))
	}
}

func (r *real) pay(*testing.T, string) bool { return false }

func (r *real) confirm(*testing.T, billing.Session) bool { return false }

func (r *real) dispute(*testing.T, string, bool) bool { return false }

// subscribe gives the customer a paid subscription, as Checkout does.
func subscribe(t *testing.T, w world, customerID string, tier plans.Tier) string {
	t.Helper()
	c := w.stripe()
	priceID, err := c.price(t.Context(), c.cfg.Catalogue.Plan(tier))
	require.NoError(t, err)
	s, err := c.api.Subscriptions.New(&stripego.SubscriptionParams{
		Params: read(t.Context()), Customer: stripego.String(customerID),
		Items: []*stripego.SubscriptionItemsParams{{Price: stripego.String(priceID), Quantity: stripego.Int64(1)}},
	})
	require.NoError(t, err)
	return s.ID
}
