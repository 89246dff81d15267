package httpapi_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keymeter/keymeter/internal/stripesim"
)

// changePlan goes through checkout to the page that asks to confirm, and confirms.
func (w *world) changePlan(c customer, tier string) {
	w.t.Helper()
	var s session
	w.checkout(c, tier).want(http.StatusOK, &s)
	w.click(s.URL + "/confirm")
}

// unschedule goes through checkout to the page that shows what is scheduled, and cancels that.
func (w *world) unschedule(c customer, tier string) (page string) {
	w.t.Helper()
	var s session
	w.checkout(c, tier).want(http.StatusOK, &s)
	require.Regexp(w.t, `^bps_`, s.SessionID)
	w.click(s.URL+"/keep", "subscription", w.subscriptionsAtStripe(*w.account(c).StripeCustomerID)[0])
	return s.URL
}

// renew lets the first month of a subscription end, and Stripe collect the renewal.
func (w *world) renew() {
	w.t.Helper()
	w.clock.Set(time.Date(2026, 4, 21, 10, 30, 1, 0, time.UTC))
	w.sim.Advance()
	w.delivered()
	w.clock.Advance(time.Hour)
	w.sim.Advance()
	w.delivered()
}

// newestInvoice returns the customer's newest invoice.
func (w *world) newestInvoice(c customer) stripeInvoice {
	w.t.Helper()
	return w.invoices(*w.account(c).StripeCustomerID)[0]
}

// middle is in the middle of the first month.
var middle = time.Date(2026, 4, 5, 12, 0, 0, 0, time.UTC)

func TestDowngradeAtThePeriodsEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	c := w.newCustomer()
	w.subscribe(c, "pro")
	w.record(event{"id": "before", "accountId": c.ID, "category": "rag", "credits": 180_000}).want(http.StatusOK)
	w.clock.Set(middle)
	w.changePlan(c, "starter")

	s := w.subscription(c)
	require.Equal(t, "pro", s.Tier)
	require.Equal(t, credits{180_000, 200_000, 20_000}, s.Credits)
	require.Len(t, w.invoices(*s.StripeCustomerID), 1, "it costs nothing")
	w.record(event{"id": "after", "accountId": c.ID, "category": "rag", "credits": 70_000}).want(http.StatusOK)

	w.clock.Set(time.Date(2026, 4, 21, 10, 29, 59, 0, time.UTC))
	w.sim.Advance()
	w.delivered()
	require.Equal(t, "pro", w.subscription(c).Tier, "to the last second")
	w.clock.Set(time.Date(2026, 4, 21, 10, 30, 1, 0, time.UTC))
	w.sim.Advance()
	w.delivered()
	w.bills("billed", 1) // while the renewal is a draft
	w.renew()
	s = w.subscription(c)
	require.Equal(t, "starter", s.Tier)
	require.Equal(t, credits{0, 50_000, 50_000}, s.Credits)
	require.Equal(t, "2026-05-21T10:30:00Z", s.TierExpiresAt.Format(time.RFC3339))
	require.Equal(t, 1, w.count("overages WHERE account_id = $1 AND credits = 50000 AND unit_micros = 800", c.ID))

	inv := w.newestInvoice(c)
	require.Equal(t, "paid", inv.Status)
	require.Equal(t, int64(2900+4000), inv.Total, "the smaller plan, and last month's overage at the larger one's price")
	require.NotContains(t, w.stripeGet("/v1/invoices/"+inv.ID), `"proration": true`)
	w.record(event{"id": "over", "accountId": c.ID, "category": "rag", "credits": 60_000}).want(http.StatusOK)
	w.clock.Set(time.Date(2026, 5, 21, 10, 30, 1, 0, time.UTC))
	w.sim.Advance()
	w.delivered()
	require.Equal(t, 1, w.count("overages WHERE account_id = $1 AND credits = 10000 AND unit_micros = 1000", c.ID))
}

// Who changes their mind cancels what is scheduled, on the page that checkout leads to, whatever the tier.
func TestUpgradeWhileADowngradeIsScheduled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	c := w.newCustomer()
	w.subscribe(c, "pro")
	w.checkout(c, "pro").wantProblem(http.StatusConflict, "already_subscribed")
	w.clock.Set(middle)
	w.changePlan(c, "starter")

	var s session
	for _, tier := range []string{"starter", "pro", "scale"} {
		w.checkout(c, tier).want(http.StatusOK, &s)
		require.Regexp(t, `^bps_`, s.SessionID)
		require.Contains(t, w.stripeGet(strings.TrimPrefix(s.URL, w.stripe.URL)), "Cancel scheduled update")
	}
	require.Equal(t, "pro", w.subscription(c).Tier)
	w.unschedule(c, "pro")
	w.checkout(c, "pro").wantProblem(http.StatusConflict, "already_subscribed")
	w.changePlan(c, "scale")
	require.Equal(t, "scale", w.subscription(c).Tier, "at once")
	granted := w.subscription(c).Credits.Limit
	require.Greater(t, granted, int64(200_000))

	t.Run("and down again, another plan", func(t *testing.T) {
		w.changePlan(c, "starter")
		page := w.unschedule(c, "pro")
		w.click(page+"/change", "price", w.priceID("pro"), "subscription", w.subscriptionsAtStripe(*w.account(c).StripeCustomerID)[0])
		require.Equal(t, "scale", w.subscription(c).Tier)
		require.Equal(t, granted, w.subscription(c).Credits.Limit)
		w.renew()
		require.Equal(t, "pro", w.subscription(c).Tier)
		require.Equal(t, int64(9900), w.newestInvoice(c).Total)
	})
}

func TestCancelWhileADowngradeIsScheduled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	later, now := w.newCustomer(), w.newCustomer()
	for _, c := range []customer{later, now} {
		w.subscribe(c, "pro")
	}
	w.clock.Set(middle)
	for _, c := range []customer{later, now} {
		w.changePlan(c, "starter")
	}
	idOf := func(c customer) string { return w.subscriptionsAtStripe(*w.account(c).StripeCustomerID)[0] }
	require.NoError(t, w.sim.CancelSubscription(idOf(later), true))
	require.NoError(t, w.sim.CancelSubscription(idOf(now), false))
	w.delivered()
	require.Equal(t, "pro", w.subscription(later).Tier)
	require.Equal(t, "free", w.subscription(now).Tier)
	w.subscribe(now, "starter")
	w.renew()
	require.Equal(t, "free", w.subscription(later).Tier)
	require.Equal(t, int64(9900), w.newestInvoice(later).Total, "that of the first month")
	require.Equal(t, "starter", w.subscription(now).Tier, "a new subscription has nothing of the old one's schedule")
}

// A renewal at the smaller price that is not paid is like any other.
func TestDowngradeThatIsNotPaid(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	c := w.newCustomer()
	w.subscribe(c, "pro")
	w.clock.Set(middle)
	w.changePlan(c, "starter")
	customerID := *w.account(c).StripeCustomerID
	require.NoError(t, w.sim.SetCard(customerID, stripesim.Card{Outcome: stripesim.Declines}))
	w.renew()
	require.Equal(t, "starter", w.subscription(c).Tier, "within the grace")
	require.Equal(t, 1, w.count("billing_accounts WHERE subscription_status = 'past_due'"))
	require.Zero(t, w.count("credit_grants WHERE account_id = $1 AND amount = 50000", c.ID))
	w.checkout(c, "pro").wantProblem(http.StatusConflict, "subscription_needs_payment")

	require.NoError(t, w.sim.SetCard(customerID, stripesim.Card{Outcome: stripesim.Succeeds}))
	w.atStripe("POST", "/v1/invoices/"+w.latestInvoice(customerID)+"/pay", nil)
	w.delivered()
	require.Equal(t, credits{0, 250_000, 250_000}, w.subscription(c).Credits, "with what is carried over")
}

// In the Dashboard, and with a portal that was never set up for it, a downgrade may still take effect at once.
func TestDowngradeAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	c := w.newCustomer()
	w.subscribe(c, "scale")
	for _, tier := range []string{"starter", "scale", "starter"} { // and going round in circles gives nothing
		w.moveTo(c, tier)
		w.delivered()
		require.Equal(t, tier, w.subscription(c).Tier)
		require.Equal(t, credits{0, 1_000_000, 1_000_000}, w.subscription(c).Credits)
	}
}

func (w *world) priceID(tier string) string {
	w.t.Helper()
	var prices struct{ Data []struct{ ID string } }
	require.NoError(w.t, json.Unmarshal([]byte(w.stripeGet("/v1/prices?lookup_keys[]=keymeter_"+tier+"_monthly")), &prices))
	return prices.Data[0].ID
}

// moveTo changes the plan of a subscription in the Dashboard.
func (w *world) moveTo(c customer, tier string) {
	w.t.Helper()
	id := w.subscriptionsAtStripe(*w.account(c).StripeCustomerID)[0]
	var s struct {
		Items struct{ Data []struct{ ID string } }
	}
	require.NoError(w.t, json.Unmarshal([]byte(w.stripeGet("/v1/subscriptions/"+id)), &s))
	w.atStripe("POST", "/v1/subscriptions/"+id, url.Values{
		"items[0][id]": {s.Items.Data[0].ID}, "items[0][price]": {w.priceID(tier)}, "proration_behavior": {"always_invoice"},
	})
}
