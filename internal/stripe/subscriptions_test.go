package stripe

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keymeter/keymeter/internal/billing"
	"github.com/keymeter/keymeter/internal/plans"
)

func TestSubscriptions(t *testing.T) {
	t.Parallel()
	list := func(subscriptions string) http.RoundTripper {
		return roundTrip(func(req *http.Request) (*http.Response, error) {
			if req.URL.Path != "/v1/subscriptions" {
				return plenty().RoundTrip(req)
			}
			return answers(http.StatusOK, `{"object":"list","data":[`+subscriptions+`]}`)(req)
		})
	}
	t.Run("as they are", func(t *testing.T) {
		t.Parallel()
		client, sent := newClient(t, list(subscriptionJSON))
		got, err := client.Subscriptions(t.Context(), "cus_1")
		require.NoError(t, err)
		require.Equal(t, []billing.Subscription{{
			ID: "sub_1", ItemID: "si_1", Status: billing.Active, Tier: plans.Pro,
			Created: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Anchor: time.Date(2026, 1, 1, 0, 0, 1, 0, time.UTC),
			PeriodStart: time.Date(2026, 1, 1, 0, 0, 2, 0, time.UTC), PeriodEnd: time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC),
			CancelAtPeriodEnd: true,
		}}, got)
		require.Equal(t, url.Values{
			"customer": {"cus_1"}, "status": {"all"}, "limit": {"100"}, "expand[0]": {"data.latest_invoice"},
		}, sent.take()[0].form)
	})
	for reason, changed := range map[string]int64{"subscription_update": 1767300000, "subscription_cycle": 0} {
		t.Run("changed as its invoice says: "+reason, func(t *testing.T) {
			t.Parallel()
			client, _ := newClient(t, list(strings.Replace(subscriptionJSON, "{",
				`{"latest_invoice":{"id":"in_1","created":1767300000,"billing_reason":"`+reason+`"},`, 1)))
			got, err := client.Subscriptions(t.Context(), "cus_1")
			require.NoError(t, err)
			require.Equal(t, at(changed), got[0].PlanSince)
		})
	}
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		client, _ := newClient(t, list(""))
		got, err := client.Subscriptions(t.Context(), "cus_1")
		require.NoError(t, err)
		require.Empty(t, got)
	})
	t.Run("of all pages", func(t *testing.T) {
		t.Parallel()
		client, sent := newClient(t, roundTrip(func(req *http.Request) (*http.Response, error) {
			if req.URL.Path == "/v1/subscriptions" && req.URL.Query().Get("starting_after") == "" {
				return answers(http.StatusOK, `{"object":"list","has_more":true,"data":[`+subscriptionJSON+`]}`)(req)
			}
			return list(strings.ReplaceAll(subscriptionJSON, "sub_1", "sub_2")).RoundTrip(req)
		}))
		got, err := client.Subscriptions(t.Context(), "cus_1")
		require.NoError(t, err)
		require.Len(t, got, 2)
		exchanges := sent.take()
		require.Equal(t, []string{
			"GET /v1/subscriptions", "GET /v1/subscriptions", "GET /v1/invoices", "GET /v1/invoices",
		}, patterns(exchanges))
		require.Equal(t, "sub_1", exchanges[1].form.Get("starting_after"))
	})
	for _, c := range []struct {
		name, price string
		want        plans.Tier
	}{
		{"by lookup key", `"lookup_key":"keymeter_scale_monthly"`, plans.Scale},
		{"by metadata, once the lookup key has moved on", `"lookup_key":null,"metadata":{"keymeter_tier":"starter"}`, plans.Starter},
		{"by lookup key before metadata", `"lookup_key":"keymeter_pro_monthly","metadata":{"keymeter_tier":"scale"}`, plans.Pro},
		{"somebody else's price", `"lookup_key":"other"`, ""},
		{"no such tier", `"metadata":{"keymeter_tier":"platinum"}`, ""},
		{"a tier that is not sold", `"metadata":{"keymeter_tier":"free"}`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			client, _ := newClient(t, list(strings.Replace(subscriptionJSON, `"lookup_key": "keymeter_pro_monthly"`, c.price, 1)))
			got, err := client.Subscriptions(t.Context(), "cus_1")
			require.NoError(t, err)
			require.Equal(t, c.want, got[0].Tier)
		})
	}
	t.Run("a trial, an end, a pause and a schedule", func(t *testing.T) {
		t.Parallel()
		changed := strings.NewReplacer(
			`"trial_end": null`, `"trial_end": 1767225700`, `"ended_at": null`, `"ended_at": 1767225800`,
			`"pause_collection": null`, `"pause_collection": {"behavior": "void"}, "schedule": "sub_sched_1"`,
		).Replace(subscriptionJSON)
		client, _ := newClient(t, list(changed))
		got, err := client.Subscriptions(t.Context(), "cus_1")
		require.NoError(t, err)
		require.Equal(t, time.Unix(1767225700, 0).UTC(), got[0].TrialEnd)
		require.Equal(t, time.Unix(1767225800, 0).UTC(), got[0].EndedAt)
		require.True(t, got[0].Paused)
		require.True(t, got[0].Scheduled)
		require.Equal(t, billing.Active, got[0].Status)
	})
	// The period is where the API version has it: since basil with the item.
	const onItem = `{"id": "si_1", "current_period_start": 1769904000, "current_period_end": 1772323200,`
	for name, change := range map[string][]string{
		"a period on the item alone": {`{"id": "si_1",`, onItem, `"current_period_start": 1767225602, "current_period_end": 1769904000,`, ``},
		"a period on both":           {`{"id": "si_1",`, onItem},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, _ := newClient(t, list(strings.NewReplacer(change...).Replace(subscriptionJSON)))
			got, err := client.Subscriptions(t.Context(), "cus_1")
			require.NoError(t, err)
			require.Equal(t, time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC), got[0].PeriodStart)
			require.Equal(t, time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), got[0].PeriodEnd)
		})
	}
	// What an answer of another API version would look like is never taken for the year 1970.
	for name, change := range map[string][2]string{
		"no start of the period": {`"current_period_start": 1767225602,`, ""},
		"no end of the period":   {`"current_period_end": 1769904000,`, ""},
		"an end before it":       {`"current_period_end": 1769904000`, `"current_period_end": 1767225602`},
		"no item":                {`[{"id": "si_1", "price": {"id": "price_1", "lookup_key": "keymeter_pro_monthly"}}]`, "[]"},
		"no price":               {`{"id": "price_1", "lookup_key": "keymeter_pro_monthly"}`, "null"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Contains(t, subscriptionJSON, change[0])
			client, _ := newClient(t, list(strings.Replace(subscriptionJSON, change[0], change[1], 1)))
			_, err := client.Subscriptions(t.Context(), "cus_1")
			require.ErrorContains(t, err, "subscription sub_1")
			require.NotErrorIs(t, err, billing.ErrUnavailable)
		})
	}
}
