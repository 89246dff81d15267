package stripe

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keymeter/keymeter/internal/plans"
)

const hook = "https://api.test/webhooks/stripe"

func offers(t *testing.T) []offer {
	t.Helper()
	all, err := offersOf(catalogue(t))
	require.NoError(t, err)
	return all
}

func TestOffers(t *testing.T) {
	t.Parallel()
	require.Equal(t, []offer{
		{plans.Starter, "Starter", "keymeter_starter_monthly", 2900},
		{plans.Pro, "Pro", "keymeter_pro_monthly", 9900},
		{plans.Scale, "Scale", "keymeter_scale_monthly", 49900},
	}, offers(t))
	for text, want := range map[string]int64{"0": 0, "29": 2900, "29.9": 2990, "29.99": 2999, "0.10": 10, "1000000": 100_000_000} {
		got, err := cents(text)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for _, text := range []string{"29.999", "", "x", "99999999999999999999"} {
		_, err := cents(text)
		require.Error(t, err, text)
	}
}

// inLine is an account with which there is nothing to do.
func inLine(t *testing.T) installed {
	t.Helper()
	var there installed
	var all []sold
	for _, o := range offers(t) {
		id := "price_" + string(o.Tier)
		there.Products = append(there.Products, product{ID: productID(o), Name: o.Name, Tier: string(o.Tier), Active: true})
		there.Prices = append(there.Prices, price{
			ID: id, ProductID: productID(o), LookupKey: o.LookupKey, Tier: string(o.Tier), Cents: o.Cents, Monthly: true, Managed: true,
		})
		all = append(all, sold{o, productID(o), id})
	}
	there.Portals = []portal{
		{ID: "bpc_1", Kind: portalHome, Features: featuresOf(portalHome)},
		{ID: "bpc_2", Kind: portalPlanChange, Features: featuresOf(portalPlanChange), Products: productsOf(all)},
	}
	there.Endpoints = []endpoint{
		{ID: "we_0", URL: "https://other.test", Version: "2020-08-27", Events: []string{"*"}, Enabled: true},
		{ID: "we_1", URL: hook, Version: "2023-10-16", Events: eventTypes, Enabled: true},
	}
	return there
}

func TestPlanSync(t *testing.T) {
	t.Parallel()
	fromNothing := []string{
		"create product keymeter_starter: Starter",
		"create price keymeter_starter_monthly: $29.00 a month",
		"create product keymeter_pro: Pro",
		"create price keymeter_pro_monthly: $99.00 a month",
		"create product keymeter_scale: Scale",
		"create price keymeter_scale_monthly: $499.00 a month",
		"create portal configuration for payment methods, invoices and cancellation",
		"create portal configuration for confirming a change of plan",
		"create webhook endpoint " + hook + " for 20 types of events",
	}
	changedPortal := "change portal configuration for confirming a change of plan"
	for name, c := range map[string]struct {
		change   func(there *installed)
		want     []string
		warnings int
	}{
		"in line":              {func(*installed) {}, nil, 0},
		"from nothing":         {func(there *installed) { *there = installed{} }, fromNothing, 0},
		"a product's name":     {func(there *installed) { there.Products[1].Name = "Professional" }, []string{"change product keymeter_pro: Pro, active, for tier pro"}, 0},
		"a product off sale":   {func(there *installed) { there.Products[1].Active = false }, []string{"change product keymeter_pro: Pro, active, for tier pro"}, 0},
		"a product by hand":    {func(there *installed) { there.Products[1].Tier = "" }, []string{"change product keymeter_pro: Pro, active, for tier pro"}, 0},
		"a price without tier": {func(there *installed) { there.Prices[0].Tier = "" }, []string{"change price keymeter_starter_monthly (price_starter): for tier starter"}, 0},
		"a price that changed": {func(there *installed) { there.Prices[1].Cents = 8900 }, []string{
			"create price keymeter_pro_monthly: $99.00 a month, in place of price_pro ($89.00)",
			"archive price price_pro: $89.00, who has it keeps it", changedPortal,
		}, 0},
		"a yearly price": {func(there *installed) { there.Prices[1].Monthly = false }, []string{
			"create price keymeter_pro_monthly: $99.00 a month, in place of price_pro ($99.00)",
			"archive price price_pro: $99.00, who has it keeps it", changedPortal,
		}, 0},
		"a price without a product's id of ours": {func(there *installed) {
			there.Products[1].ID, there.Prices[1].ProductID = "prod_1", "prod_1"
		}, []string{changedPortal}, 0},
		"a product without a price": {func(there *installed) {
			there.Products[1].ID = "prod_1"
			there.Prices = append(there.Prices[:1], there.Prices[2:]...)
		}, []string{"create price keymeter_pro_monthly: $99.00 a month", changedPortal}, 0},
		"a price that a sync left": {func(there *installed) {
			there.Prices = append(there.Prices, price{ID: "price_old", Tier: "pro", Cents: 8900, Monthly: true, Managed: true})
		}, []string{"archive price price_old: $89.00, who has it keeps it"}, 0},
		"prices of others": {func(there *installed) {
			there.Prices = append(there.Prices, price{ID: "price_2", Tier: "pro", Cents: 90000}, price{ID: "price_3", LookupKey: "other"})
		}, nil, 0},
		"no portal":                        {func(there *installed) { there.Portals = nil }, fromNothing[6:8], 0},
		"a portal that allows more":        {func(there *installed) { there.Portals[0].Features.Proration = "none" }, []string{"change portal configuration for payment methods, invoices and cancellation"}, 0},
		"a portal of other products":       {func(there *installed) { there.Portals[1].Products = "" }, []string{changedPortal}, 0},
		"a portal that downgrades at once": {func(there *installed) { there.Portals[1].Features.Downgrade = "" }, []string{changedPortal}, 0},
		"no endpoint":                      {func(there *installed) { there.Endpoints = there.Endpoints[:1] }, fromNothing[8:], 0},
		"an endpoint of all events":        {func(there *installed) { there.Endpoints[1].Events = []string{"*"} }, []string{"change webhook endpoint " + hook + " (we_1): enabled, for 20 types of events"}, 0},
		"an endpoint that is off":          {func(there *installed) { there.Endpoints[1].Enabled = false }, []string{"change webhook endpoint " + hook + " (we_1): enabled, for 20 types of events"}, 0},
		"an endpoint of another version":   {func(there *installed) { there.Endpoints[1].Version = "2025-03-31.basil" }, nil, 1},
		"an endpoint of the account's":     {func(there *installed) { there.Endpoints[1].Version = "" }, nil, 1},
		"two endpoints":                    {func(there *installed) { there.Endpoints = append(there.Endpoints, there.Endpoints[1]) }, nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			there := inLine(t)
			c.change(&there)
			s := planSync(there, desired{Offers: offers(t), WebhookURL: hook})
			var lines []string
			for _, change := range s.Changes {
				lines = append(lines, change.String())
			}
			require.Equal(t, c.want, lines)
			require.Len(t, s.Warnings, c.warnings)
		})
	}
	t.Run("endpoints are left alone without a URL", func(t *testing.T) {
		t.Parallel()
		there := inLine(t)
		there.Endpoints = nil
		require.Empty(t, planSync(there, desired{Offers: offers(t)}).Changes)
	})
}

// What a sync sends is what Stripe's description of its API has, and creates what was planned.
func TestApplySync(t *testing.T) {
	t.Parallel()
	m := stripeMock(t)
	for name, there := range map[string]installed{
		"from nothing": {},
		"all that changes": func() installed {
			there := inLine(t)
			for i := range there.Prices {
				there.Products[i].Name, there.Products[i].DefaultPriceID = "Old", there.Prices[i].ID
				there.Prices[i].Cents++
			}
			there.Portals[0].Features.Invoices = false
			there.Endpoints[1].Enabled = false
			return there
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, sent := newClient(t, m.transport())
			s := planSync(there, desired{Offers: offers(t), WebhookURL: hook})
			var done []Change
			_, err := client.ApplySync(t.Context(), s, func(c Change) { done = append(done, c) })
			require.NoError(t, err)
			require.Len(t, done, len(s.Changes))
			for _, e := range sent.take() {
				require.Equal(t, http.StatusOK, e.status, "%s with %v: %s", e, e.form, e.answer)
				require.Empty(t, m.unknown(e), e)
			}
		})
	}
}

func TestPlanChangePortal(t *testing.T) {
	t.Parallel()
	client, sent := newClient(t, answers(http.StatusOK, `{"id":"bpc_1"}`))
	there := inLine(t)
	there.Portals = nil
	_, err := client.ApplySync(t.Context(), planSync(there, desired{Offers: offers(t)}), func(Change) {})
	require.NoError(t, err)
	exchanges := sent.take()
	require.Equal(t, url.Values{
		"business_profile[headline]":               {""},
		"features[invoice_history][enabled]":       {"true"},
		"features[payment_method_update][enabled]": {"true"},
		"features[subscription_cancel][enabled]":   {"true"},
		"features[subscription_cancel][mode]":      {"at_period_end"},
		"features[subscription_update][enabled]":   {"false"},
		"metadata[keymeter_portal]":                {"home"},
	}, exchanges[0].form)
	form := exchanges[1].form
	require.Equal(t, "true", form.Get("features[subscription_update][enabled]"))
	require.Equal(t, "always_invoice", form.Get("features[subscription_update][proration_behavior]"))
	require.Equal(t, "price", form.Get("features[subscription_update][default_allowed_updates][0]"))
	require.Equal(t, "decreasing_item_amount", form.Get("features[subscription_update][schedule_at_period_end][conditions][0][type]"))
	require.Equal(t, "at_period_end", form.Get("metadata[keymeter_downgrade]"))
	require.Equal(t, "2023-10-16", exchanges[0].header.Get("Stripe-Version"))
	require.Equal(t, "2024-10-28.acacia", exchanges[1].header.Get("Stripe-Version"), "which has the parameter")
	require.Equal(t, "keymeter_scale", form.Get("features[subscription_update][products][2][product]"))
	require.Equal(t, "price_scale", form.Get("features[subscription_update][products][2][prices][0]"))
	require.Equal(t, "keymeter_starter=price_starter keymeter_pro=price_pro keymeter_scale=price_scale",
		form.Get("metadata[keymeter_products]"))
}

// A Stripe that does not put downgrades off still gets the configuration, and the operator is told.
func TestDowngradesCannotBePutOff(t *testing.T) {
	t.Parallel()
	const unknown = "features[subscription_update][schedule_at_period_end]"
	for name, refusal := range map[string]string{
		"the parameter is unknown": `{"error":{"type":"invalid_request_error","code":"parameter_unknown","param":"` + unknown + `"}}`,
		"the version is unknown":   `{"error":{"type":"invalid_request_error","message":"Invalid Stripe API version: 2024-10-28.acacia"}}`,
		"something else is wrong":  `{"error":{"type":"invalid_request_error","code":"resource_missing","param":"features[subscription_update][products]"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, sent := newClient(t, roundTrip(func(req *http.Request) (*http.Response, error) {
				if req.Header.Get("Stripe-Version") != "2023-10-16" {
					return answers(http.StatusBadRequest, refusal)(req)
				}
				return answers(http.StatusOK, `{"id":"bpc_1"}`)(req)
			}))
			there := inLine(t)
			there.Portals = there.Portals[:1]
			synced, err := client.ApplySync(t.Context(), planSync(there, desired{Offers: offers(t)}), func(Change) {})
			exchanges := sent.take()
			if name == "something else is wrong" {
				require.Error(t, err)
				require.Len(t, exchanges, 1)
				return
			}
			require.NoError(t, err)
			require.Len(t, synced.Warnings, 1)
			require.Contains(t, synced.Warnings[0], "takes effect at once")
			require.Len(t, exchanges, 2)
			form := exchanges[1].form
			require.Equal(t, "always_invoice", form.Get("features[subscription_update][proration_behavior]"))
			require.NotContains(t, form, unknown+"[conditions][0][type]")
			require.Empty(t, form.Get("metadata[keymeter_downgrade]"), "the next sync tries again")
		})
	}
}
