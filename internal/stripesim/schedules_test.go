package stripesim_test

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"
)

// downgrade confirms a change to a lesser plan in the portal.
func (b *bundle) downgrade(t *testing.T, sub *stripe.Subscription, to string) {
	t.Helper()
	path := b.portal(t, sub, b.updateFlow(t, sub, to))
	shown := b.do(t, "GET", path, "").raw
	require.Contains(t, shown, "The change counts from "+time.Unix(sub.CurrentPeriodEnd, 0).UTC().Format("2 January 2006"))
	done := b.do(t, "POST", path+"/confirm", "")
	require.Equal(t, http.StatusSeeOther, done.status, done.raw)
	require.Equal(t, "http://app.test/changed", done.header.Get("Location"))
}

func (b *bundle) schedule(t *testing.T, id string) *stripe.SubscriptionSchedule {
	t.Helper()
	sc, err := b.api.SubscriptionSchedules.Get(id, nil)
	require.NoError(t, err)
	return sc
}

func (b *bundle) plan(t *testing.T, sub *stripe.Subscription) string {
	t.Helper()
	return b.get(t, sub.ID).Items.Data[0].Price.LookupKey
}

func TestDowngradeWaitsForThePeriodsEnd(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sub := b.subscribe(t, "pro")
	b.sim.Advance(10 * aDay)
	before := len(b.sim.Events())
	b.downgrade(t, sub, "starter")
	require.Equal(t, []string{"subscription_schedule.created", "customer.subscription.updated"}, b.eventTypes(before))
	require.Equal(t, "pro", b.plan(t, sub))

	sc := b.schedule(t, b.get(t, sub.ID).Schedule.ID)
	require.Equal(t, stripe.SubscriptionScheduleStatusActive, sc.Status)
	require.Equal(t, sub.ID, sc.Subscription.ID)
	require.Len(t, sc.Phases, 2)
	require.Equal(t, sub.CurrentPeriodEnd, sc.CurrentPhase.EndDate)
	require.Equal(t, sub.CurrentPeriodEnd, sc.Phases[1].StartDate)
	require.Equal(t, b.price(t, "starter").ID, sc.Phases[1].Items[0].Price.ID)
	require.Equal(t, stripe.SubscriptionSchedulePhaseProrationBehaviorNone, sc.Phases[1].ProrationBehavior)

	before = len(b.sim.Events())
	b.sim.Advance(time.Until(time.Unix(sub.CurrentPeriodEnd, 0)) + time.Minute - 10*aDay)
	require.Equal(t, []string{"invoice.created", "customer.subscription.updated", "subscription_schedule.released"}, b.eventTypes(before))
	after := b.get(t, sub.ID)
	require.Equal(t, "starter", b.plan(t, sub))
	require.Equal(t, sub.CurrentPeriodEnd, after.CurrentPeriodStart)
	require.Nil(t, after.Schedule)
	inv, err := b.api.Invoices.Get(after.LatestInvoice.ID, nil)
	require.NoError(t, err)
	require.Equal(t, int64(1900), inv.Total)
	require.Len(t, inv.Lines.Data, 1, "nothing is prorated")
	released := b.schedule(t, sc.ID)
	require.Equal(t, stripe.SubscriptionScheduleStatusReleased, released.Status)
	require.Equal(t, sub.ID, released.ReleasedSubscription.ID)
	require.NotZero(t, released.ReleasedAt)
}

func TestScheduledChangeIsTakenBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sub := b.subscribe(t, "pro")
	flow := b.updateFlow(t, sub, "scale")
	open := b.portal(t, sub, flow)
	b.downgrade(t, sub, "starter")
	home := b.portal(t, sub, nil)
	form := "subscription=" + sub.ID

	t.Run("which comes before all else", func(t *testing.T) {
		shown := b.do(t, "GET", home, "").raw
		require.Contains(t, shown, "as Starter")
		require.NotContains(t, shown, "Change to")
		require.Equal(t, http.StatusConflict, b.do(t, "POST", open+"/confirm", "").status)
		for button, more := range map[string]string{
			"change": "&price=" + b.price(t, "scale").ID, "cancel": "&when=period_end", "resume": "",
		} {
			require.Equal(t, http.StatusConflict, b.do(t, "POST", home+"/"+button, form+more).status, button)
		}
		_, err := b.api.Subscriptions.Update(sub.ID, &stripe.SubscriptionParams{CancelAtPeriodEnd: stripe.Bool(true)})
		require.ErrorContains(t, err, "managed by the subscription schedule")
		_, err = b.api.BillingPortalSessions.New(&stripe.BillingPortalSessionParams{Customer: stripe.String(sub.Customer.ID), FlowData: flow})
		require.ErrorContains(t, err, "stacks")
	})
	before := len(b.sim.Events())
	require.Equal(t, http.StatusSeeOther, b.do(t, "POST", home+"/keep", form).status)
	require.Equal(t, []string{"subscription_schedule.released", "customer.subscription.updated"}, b.eventTypes(before))
	require.Nil(t, b.get(t, sub.ID).Schedule)
	require.Equal(t, http.StatusSeeOther, b.do(t, "POST", home+"/change", form+"&price="+b.price(t, "scale").ID).status)
	require.Equal(t, "scale", b.plan(t, sub))
	b.sim.Advance(32 * aDay)
	require.Equal(t, "scale", b.plan(t, sub))

	t.Run("in the Dashboard", func(t *testing.T) {
		b.downgrade(t, b.get(t, sub.ID), "pro")
		id := b.get(t, sub.ID).Schedule.ID
		_, err := b.api.SubscriptionSchedules.Release(id, nil)
		require.NoError(t, err)
		require.Nil(t, b.get(t, sub.ID).Schedule)
		_, err = b.api.SubscriptionSchedules.Release(id, nil)
		require.ErrorContains(t, err, "released")
	})
}

func TestAnEndEndsTheSchedule(t *testing.T) {
	t.Parallel()
	b := setup(t)
	atOnce, later := b.subscribe(t, "pro"), b.subscribe(t, "pro")
	b.downgrade(t, atOnce, "starter")
	b.downgrade(t, later, "starter")
	id := b.get(t, atOnce.ID).Schedule.ID
	_, err := b.api.Subscriptions.Cancel(atOnce.ID, nil)
	require.NoError(t, err)
	require.Equal(t, stripe.SubscriptionScheduleStatusCanceled, b.schedule(t, id).Status)

	require.NoError(t, b.sim.CancelSubscription(later.ID, true))
	require.Nil(t, b.get(t, later.ID).Schedule)
	b.sim.Advance(32 * aDay)
	require.Equal(t, stripe.SubscriptionStatusCanceled, b.get(t, later.ID).Status)
	require.Equal(t, "pro", b.plan(t, later))
	list := b.api.SubscriptionSchedules.List(&stripe.SubscriptionScheduleListParams{Customer: stripe.String(later.Customer.ID)})
	require.True(t, list.Next())
	require.Equal(t, stripe.SubscriptionScheduleStatusReleased, list.SubscriptionSchedule().Status)
	require.False(t, list.Next())
}

// Stripe has the setting since a later version, and says to send that one.
func TestPuttingOffIsOfALaterVersion(t *testing.T) {
	t.Parallel()
	b := setup(t)
	form := url.Values{
		"features[subscription_update][enabled]": {"false"}, "features[invoice_history][enabled]": {"true"},
		"features[subscription_update][schedule_at_period_end][conditions][0][type]": {"decreasing_item_amount"},
	}.Encode()
	refused := b.do(t, "POST", "/v1/billing_portal/configurations", form)
	require.Equal(t, "parameter_unknown", refused.error("code"))
	made := b.do(t, "POST", "/v1/billing_portal/configurations", form, "Stripe-Version", "2024-10-28.acacia")
	require.Equal(t, http.StatusOK, made.status, made.raw)
	require.Contains(t, made.raw, "decreasing_item_amount")
	require.Equal(t, http.StatusNotImplemented, b.do(t, "GET", "/v1/prices", "", "Stripe-Version", "2024-10-28.acacia").status)
}

// An account's own configuration may change the plan at once, up and down.
func TestDowngradeAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sub := b.subscribe(t, "pro")
	pro, starter := b.price(t, "pro"), b.price(t, "starter")
	config, err := b.api.BillingPortalConfigurations.New(&stripe.BillingPortalConfigurationParams{
		Features: &stripe.BillingPortalConfigurationFeaturesParams{
			SubscriptionUpdate: &stripe.BillingPortalConfigurationFeaturesSubscriptionUpdateParams{
				Enabled: stripe.Bool(true), DefaultAllowedUpdates: stripe.StringSlice([]string{"price"}),
				ProrationBehavior: stripe.String("always_invoice"),
				Products: []*stripe.BillingPortalConfigurationFeaturesSubscriptionUpdateProductParams{
					{Product: stripe.String(pro.Product.ID), Prices: stripe.StringSlice([]string{pro.ID})},
					{Product: stripe.String(starter.Product.ID), Prices: stripe.StringSlice([]string{starter.ID})},
				},
			},
		},
	})
	require.NoError(t, err)
	ps, err := b.api.BillingPortalSessions.New(&stripe.BillingPortalSessionParams{
		Customer: stripe.String(sub.Customer.ID), Configuration: stripe.String(config.ID), FlowData: b.updateFlow(t, sub, "starter"),
	})
	require.NoError(t, err)
	require.Equal(t, http.StatusSeeOther, b.do(t, "POST", page(t, ps.URL)+"/confirm", "").status)
	require.Equal(t, "starter", b.plan(t, sub))
	require.Nil(t, b.get(t, sub.ID).Schedule)
}
