package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/keymeter/keymeter/internal/app"
	"github.com/keymeter/keymeter/internal/testkit"
)

// twoServers is a world with a second server on the same database. Every webhook is brought to both at once.
type twoServers struct {
	*world
	other     *app.App
	asked     [2]atomic.Int64 // how often each server has asked Stripe
	delivered int             // events
}

func newTwoServers(t *testing.T) *twoServers {
	w := &twoServers{world: newWorld(t, withStripe)}
	ask := func(server int) http.HandlerFunc {
		return func(res http.ResponseWriter, req *http.Request) {
			w.asked[server].Add(1)
			w.sim.Handler().ServeHTTP(res, req)
		}
	}
	w.stripeAnswers.Store(ask(0))
	stripe := httptest.NewServer(ask(1))
	t.Cleanup(stripe.Close)
	cfg := w.cfg
	cfg.StripeAPIURL = stripe.URL
	w.other = w.build(cfg)
	second := httptest.NewServer(w.other.Handler())
	t.Cleanup(second.Close)
	both := httptest.NewServer(bringTo(w.http.URL, second.URL))
	t.Cleanup(both.Close)
	w.sim.SetWebhook(both.URL+"/webhooks/stripe", webhookSecret)
	w.reconcile()
	w.sim.HoldDeliveries()
	return w
}

// bringTo passes a webhook on to several servers at the same time.
func bringTo(servers ...string) http.Handler {
	return http.HandlerFunc(func(res http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		group, ctx := errgroup.WithContext(req.Context())
		for _, server := range servers {
			group.Go(func() error { return passOn(ctx, server+req.URL.Path, req.Header, body) })
		}
		if group.Wait() != nil || err != nil {
			res.WriteHeader(http.StatusBadGateway)
		}
	})
}

func passOn(ctx context.Context, to string, headers http.Header, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header = headers.Clone()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("answered %d", res.StatusCode)
	}
	return nil
}

// settle brings both servers what Stripe sends, mixed up and many at a time, while both reconcile, until nothing is left.
func (w *twoServers) settle() {
	w.t.Helper()
	events := w.sim.Events()
	fresh := slices.Clone(events[w.delivered:])
	w.delivered = len(events)
	rand.Shuffle(len(fresh), func(i, j int) { fresh[i], fresh[j] = fresh[j], fresh[i] })
	group, ctx := errgroup.WithContext(context.Background())
	group.SetLimit(8)
	for i, e := range fresh {
		group.Go(func() error { return w.sim.Deliver(ctx, e.ID) })
		if i != len(fresh)/2 {
			continue
		}
		for _, server := range []*app.App{w.app, w.other} {
			group.Go(func() error { _, err := server.Reconcile(ctx); return err })
		}
	}
	require.NoError(w.t, group.Wait())
	testkit.Eventually(w.t, "no work", func() bool {
		return w.count("stripe_events WHERE handled_at IS NULL")+w.count("overage_bills WHERE state = 'pending'") == 0
	})
}

// Two servers have every webhook at the same time and work the same inbox. Each account ends as it would with one, and
// what is done at Stripe is done once.
func TestTwoServersWorkTheSameInbox(t *testing.T) {
	t.Parallel()
	w := newTwoServers(t)
	var customers []customer
	for range 12 {
		customers = append(customers, w.newCustomer())
	}
	all := func(do func(c customer)) {
		for _, c := range customers {
			do(c)
		}
		w.settle()
	}
	all(func(c customer) { checksOut("pro")(w.world, c) })
	w.at(w.clock.Now().Add(time.Hour))
	all(func(c customer) {
		w.spend(c, c.ID+"_1", 250_000).want(http.StatusOK)
		w.subscribeAtStripe(*w.account(c).StripeCustomerID, "keymeter_scale_monthly") // paid twice
	})
	w.at(renewal.Add(time.Second))
	all(func(customer) {})
	w.at(renewal.Add(2 * time.Hour))
	all(func(customer) {})
	all(func(c customer) {
		w.spend(c, c.ID+"_2", 250_000).want(http.StatusOK)
		cancels(false)(w.world, c)
	})
	w.at(w.clock.Now().Add(2 * time.Hour))
	all(func(customer) {})

	require.Positive(t, w.asked[0].Load())
	require.Positive(t, w.asked[1].Load())
	require.Zero(t, w.count("stripe_events WHERE last_error IS NOT NULL"))
	require.Zero(t, w.count("overage_bills WHERE state <> 'billed'"))
	want := w.outcome(customers[0])
	for _, c := range customers {
		require.Equal(t, "free", w.subscription(c).Tier)
		require.Equal(t, credits{0, 2500, 2500}, w.subscription(c).Credits)
		require.Equal(t, want, w.outcome(c))
		w.wantOnce(c)
	}
	require.Equal(t, len(customers), w.count("duplicate_subscriptions WHERE cancelled_at IS NOT NULL"))
	found, err := w.app.VerifyLedger(t.Context())
	require.NoError(t, err)
	require.Empty(t, found)
}

// outcome is what has become of an account here.
func (w *twoServers) outcome(c customer) (lines []string) {
	for _, query := range stateQueries {
		lines = append(lines, w.lines(query, c.ID)...)
	}
	return lines
}

// wantOnce checks what was done at Stripe for an account.
func (w *twoServers) wantOnce(c customer) {
	w.t.Helper()
	customerID := *w.account(c).StripeCustomerID
	require.Empty(w.t, w.subscriptionsAtStripe(customerID))
	invoices := w.invoices(customerID)
	for i := range invoices {
		invoices[i].ID = ""
	}
	require.Equal(w.t, []stripeInvoice{
		{"", "paid", 4000, "manual"},
		{"", "paid", 9900 + 4000, "subscription_cycle"},
		{"", "paid", 49900, "subscription_create"},
		{"", "paid", 9900, "subscription_create"},
	}, invoices)
	require.Len(w.t, w.items(customerID), 2)
	require.Equal(w.t, []int64{49900}, w.refunds(customerID))
}

// refunds returns what was refunded of a customer's charges.
func (w *world) refunds(customerID string) (amounts []int64) {
	w.t.Helper()
	var charges struct{ Data []struct{ ID string } }
	require.NoError(w.t, json.Unmarshal([]byte(w.stripeGet("/v1/charges?limit=100&customer="+customerID)), &charges))
	for _, ch := range charges.Data {
		var list struct{ Data []struct{ Amount int64 } }
		require.NoError(w.t, json.Unmarshal([]byte(w.stripeGet("/v1/refunds?charge="+ch.ID)), &list))
		for _, r := range list.Data {
			amounts = append(amounts, r.Amount)
		}
	}
	return amounts
}
