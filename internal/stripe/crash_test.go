package stripe

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	stripego "github.com/stripe/stripe-go/v76"

	"github.com/keymeter/keymeter/internal/billing"
	"github.com/keymeter/keymeter/internal/plans"
)

// crashing lets so many writes pass and ends the process at the next one, which takes effect or not; its answer is lost
// either way.
func crashing(next http.RoundTripper, writes int, effect bool, end context.CancelFunc) roundTrip {
	return func(req *http.Request) (*http.Response, error) {
		if req.Method == http.MethodGet {
			return next.RoundTrip(req)
		}
		writes--
		if writes >= 0 {
			return next.RoundTrip(req)
		}
		if effect {
			res, err := next.RoundTrip(req)
			if err == nil {
				err = res.Body.Close()
			}
			if err != nil {
				return nil, err
			}
		}
		end()
		return nil, errors.New("the process has ended")
	}
}

// everyCrash runs a test with a crash at each write of what do does, before and after it takes effect. do is called in a
// process that ends there, and again two days later, when Stripe has forgotten the idempotency keys.
func everyCrash(t *testing.T, writes int, run func(t *testing.T, w *simulated, crash func(do func(ctx context.Context, c *Client) error))) {
	t.Helper()
	for n := range writes + 1 {
		for _, effect := range []bool{false, true} {
			w := newSimulated(t).(*simulated)
			conformSync(t, w)
			run(t, w, func(do func(ctx context.Context, c *Client) error) {
				ctx, end := context.WithCancel(t.Context())
				defer end()
				cfg := w.client.cfg
				cfg.Transport = crashing(cfg.Transport, n, effect, end)
				err := do(ctx, New(cfg))
				require.Equal(t, n < writes, err != nil, "there are %d writes", writes)
				w.sim.Advance(48 * time.Hour)
				require.NoError(t, do(t.Context(), w.client))
			})
		}
	}
}

func TestBillAlone_crash(t *testing.T) {
	t.Parallel()
	everyCrash(t, 5, func(t *testing.T, w *simulated, crash func(func(context.Context, *Client) error)) {
		customerID := w.customer(t, "acct_1")
		s := billing.Subscription{ID: subscribe(t, w, customerID, plans.Pro), PeriodStart: w.sim.Now()}
		left := overageOf("acct_1", s, customerID, "", 55)
		_, err := w.client.AddOverage(t.Context(), left)
		require.NoError(t, err)
		require.NoError(t, w.client.CancelSubscription(t.Context(), billing.Cancellation{SubscriptionID: s.ID, Key: "c"}))
		own := billing.OwnInvoice{
			AccountID: "acct_1", CustomerID: customerID, SubscriptionID: s.ID, Description: "Last period", Key: "k",
			Items: []billing.OverageItem{left, overageOf("acct_1", s, customerID, "", 125)},
		}
		crash(func(ctx context.Context, c *Client) error {
			_, err := c.BillAlone(ctx, own)
			return err
		})
		w.sim.Advance(2 * time.Hour)
		require.Equal(t, []int64{180}, paidAlone(t, w, customerID))
	})
}

// paidAlone returns what the customer has paid by manual invoices, each.
func paidAlone(t *testing.T, w *simulated, customerID string) (amounts []int64) {
	t.Helper()
	list := w.client.api.Invoices.List(&stripego.InvoiceListParams{ListParams: page(t.Context()), Customer: stripego.String(customerID)})
	for list.Next() {
		if list.Invoice().BillingReason == stripego.InvoiceBillingReasonManual {
			amounts = append(amounts, list.Invoice().AmountPaid)
		}
	}
	require.NoError(t, list.Err())
	return amounts
}

// The answer to an item on the draft is lost, and by the next try the draft is closed: the item is charged once.
func TestAddOverage_crash(t *testing.T) {
	t.Parallel()
	everyCrash(t, 1, func(t *testing.T, w *simulated, crash func(func(context.Context, *Client) error)) {
		customerID := w.customer(t, "acct_1")
		subscribe(t, w, customerID, plans.Pro)
		s, _ := renew(t, w, customerID)
		crash(func(ctx context.Context, c *Client) error {
			draft, _, err := c.RenewalDraft(ctx, customerID, s.ID, s.PeriodStart) // none, two days later
			if err != nil {
				return err
			}
			_, err = c.AddOverage(ctx, overageOf("acct_1", s, customerID, draft, 80))
			return err
		})
		w.sim.Advance(40 * 24 * time.Hour)
		var total int64
		list := w.client.api.Invoices.List(&stripego.InvoiceListParams{ListParams: page(t.Context()), Customer: stripego.String(customerID)})
		for list.Next() {
			total += list.Invoice().AmountPaid
		}
		require.NoError(t, list.Err())
		require.Equal(t, int64(3*9900+80), total)
	})
}

func TestCancelSubscription_crash(t *testing.T) {
	t.Parallel()
	everyCrash(t, 2, func(t *testing.T, w *simulated, crash func(func(context.Context, *Client) error)) {
		customerID := w.customer(t, "acct_1")
		id := subscribe(t, w, customerID, plans.Pro)
		w.sim.Advance(24 * time.Hour)
		ended := w.sim.Now()
		s := onlySubscription(t, w, customerID)
		crash(func(ctx context.Context, c *Client) error {
			return c.CancelSubscription(ctx, billing.Cancellation{SubscriptionID: id, Refund: true, Key: "k"})
		})
		list := w.client.api.Charges.List(&stripego.ChargeListParams{ListParams: page(t.Context()), Customer: stripego.String(customerID)})
		require.True(t, list.Next())
		after := onlySubscription(t, w, customerID)
		require.False(t, after.EndedAt.Before(ended))
		require.Equal(t, rest(9900, period{s.PeriodStart.Unix(), s.PeriodEnd.Unix()}, after.EndedAt.Unix()), list.Charge().AmountRefunded)
		require.False(t, list.Next())
	})
}

// A sync that ends halfway is completed by the next one, and leaves nothing twice.
func TestApplySync_crash(t *testing.T) {
	t.Parallel()
	for n := range 9 {
		for _, effect := range []bool{false, true} {
			w := newSimulated(t).(*simulated)
			ctx, end := context.WithCancel(t.Context())
			cfg := w.client.cfg
			cfg.Transport = crashing(cfg.Transport, n, effect, end)
			c := New(cfg)
			plan, err := c.PlanSync(ctx, hook)
			require.NoError(t, err)
			require.Len(t, plan.Changes, 9)
			_, err = c.ApplySync(ctx, plan, func(Change) {})
			require.Error(t, err)
			for range 2 {
				plan, err = w.client.PlanSync(t.Context(), hook)
				require.NoError(t, err)
				_, err = w.client.ApplySync(t.Context(), plan, func(Change) {})
				require.NoError(t, err)
			}
			require.Empty(t, plan.Changes)
			there, err := w.client.installed(t.Context())
			require.NoError(t, err)
			require.Len(t, there.Products, 3)
			require.Len(t, there.Prices, 3)
			require.Len(t, there.Portals, 2)
			require.Len(t, there.Endpoints, 1)
		}
	}
}

// A price that changes leaves the subscriptions on the old one, which keep their tier; and nothing else is on sale.
func TestApplySync_changedPrice(t *testing.T) {
	t.Parallel()
	w := newSimulated(t).(*simulated)
	conformSync(t, w)
	customerID := w.customer(t, "acct_1")
	subscribe(t, w, customerID, plans.Pro)
	there, err := w.client.installed(t.Context())
	require.NoError(t, err)
	dearer := offers(t)
	dearer[1].Cents = 10900
	_, err = w.client.ApplySync(t.Context(), planSync(there, desired{Offers: dearer}), func(Change) {})
	require.NoError(t, err)
	require.Equal(t, plans.Pro, onlySubscription(t, w, customerID).Tier)
	there, err = w.client.installed(t.Context())
	require.NoError(t, err)
	require.Empty(t, planSync(there, desired{Offers: dearer}).Changes)
	require.Len(t, there.Prices, 3)
}
