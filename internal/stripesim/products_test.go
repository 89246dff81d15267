package stripesim_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"
)

func TestCatalogueByAPI(t *testing.T) {
	t.Parallel()
	b := setup(t)
	prod, err := b.api.Products.New(&stripe.ProductParams{
		ID: stripe.String("keymeter_team"), Name: stripe.String("Team"), Metadata: map[string]string{"tier": "team"},
	})
	require.NoError(t, err)
	require.Equal(t, "keymeter_team", prod.ID)
	require.Equal(t, 400, b.do(t, "POST", "/v1/products", "name=A&id=keymeter_team").status)
	renamed, err := b.api.Products.Update(prod.ID, &stripe.ProductParams{Name: stripe.String("Teams")})
	require.NoError(t, err)
	require.Equal(t, "Teams", renamed.Name)
	sold := func(amount int64, transfer bool) (*stripe.Price, error) {
		return b.api.Prices.New(&stripe.PriceParams{
			Product: stripe.String(prod.ID), Currency: stripe.String("usd"), UnitAmount: stripe.Int64(amount),
			LookupKey: stripe.String("team"), TransferLookupKey: stripe.Bool(transfer),
			Recurring: &stripe.PriceRecurringParams{Interval: stripe.String("month")},
		})
	}
	first, err := sold(19900, false)
	require.NoError(t, err)
	_, err = sold(24900, false)
	b.refused(t, err, 400, "")
	second, err := sold(24900, true)
	require.NoError(t, err)
	require.Equal(t, second.ID, b.price(t, "team").ID)
	old, err := b.api.Prices.Update(first.ID, &stripe.PriceParams{Active: stripe.Bool(false), Metadata: map[string]string{"keymeter_tier": "team"}})
	require.NoError(t, err)
	require.False(t, old.Active)
	require.Empty(t, old.LookupKey)
	active := b.do(t, "GET", "/v1/prices?active=true&product="+prod.ID, "").body["data"].([]any)
	require.Len(t, active, 1)
	require.Len(t, b.do(t, "GET", "/v1/prices?active=false", "").body["data"], 1)
	require.Len(t, b.do(t, "GET", "/v1/products?ids[0]="+prod.ID, "").body["data"], 1)
	require.Equal(t, []string{
		"product.created", "product.updated", "price.created", "price.updated", "price.created", "price.updated",
	}, b.eventTypes(0))

	session := "mode=subscription&success_url=http://a.test/&line_items[0][quantity]=1&line_items[0][price]="
	require.Equal(t, 400, b.do(t, "POST", "/v1/checkout/sessions", session+first.ID).status, "an archived price is not sold")
	sub := b.subscribe(t, "team")
	require.Equal(t, int64(24900), sub.Items.Data[0].Price.UnitAmount)

	yearly := b.do(t, "POST", "/v1/prices", "product="+prod.ID+"&currency=usd&unit_amount=1000&recurring[interval]=year").body
	require.Equal(t, "year", yearly["recurring"].(map[string]any)["interval"])
	for form, status := range map[string]int{
		"currency=eur&unit_amount=1": 501, "currency=usd": 400, "currency=usd&unit_amount=1&recurring[interval]=week": 501,
		"currency=usd&unit_amount=1&recurring[interval]=month&recurring[usage_type]=metered": 501,
	} {
		require.Equal(t, status, b.do(t, "POST", "/v1/prices", "product="+prod.ID+"&"+form).status, form)
	}
}

func TestPortalConfigurations(t *testing.T) {
	t.Parallel()
	b := setup(t)
	pro := b.price(t, "pro")
	params := &stripe.BillingPortalConfigurationParams{
		BusinessProfile:  &stripe.BillingPortalConfigurationBusinessProfileParams{Headline: stripe.String("Keymeter")},
		DefaultReturnURL: stripe.String("http://app.test/billing"),
		Metadata:         map[string]string{"keymeter": "portal"},
		Features: &stripe.BillingPortalConfigurationFeaturesParams{
			SubscriptionCancel: &stripe.BillingPortalConfigurationFeaturesSubscriptionCancelParams{Enabled: stripe.Bool(true)},
			SubscriptionUpdate: &stripe.BillingPortalConfigurationFeaturesSubscriptionUpdateParams{
				Enabled: stripe.Bool(true), DefaultAllowedUpdates: stripe.StringSlice([]string{"price"}),
				ProrationBehavior: stripe.String("create_prorations"),
				Products: []*stripe.BillingPortalConfigurationFeaturesSubscriptionUpdateProductParams{
					{Product: stripe.String(pro.Product.ID), Prices: stripe.StringSlice([]string{pro.ID})},
				},
			},
		},
	}
	config, err := b.api.BillingPortalConfigurations.New(params)
	require.NoError(t, err)
	require.False(t, config.IsDefault)
	require.Equal(t, pro.ID, config.Features.SubscriptionUpdate.Products[0].Prices[0])
	list := b.api.BillingPortalConfigurations.List(&stripe.BillingPortalConfigurationListParams{IsDefault: stripe.Bool(true)})
	require.True(t, list.Next())
	require.NotEqual(t, config.ID, list.BillingPortalConfiguration().ID)

	sub := b.subscribe(t, "starter")
	open := func(to string) (*stripe.BillingPortalSession, error) {
		return b.api.BillingPortalSessions.New(&stripe.BillingPortalSessionParams{
			Customer: stripe.String(sub.Customer.ID), Configuration: stripe.String(config.ID), FlowData: b.updateFlow(t, sub, to),
		})
	}
	_, err = open("scale")
	require.ErrorContains(t, err, "does not have this price")
	ps, err := open("pro")
	require.NoError(t, err)
	require.Equal(t, "http://app.test/billing", ps.ReturnURL)
	before := len(b.sim.Events())
	require.Equal(t, 303, b.do(t, "POST", page(t, ps.URL)+"/confirm", "").status)
	require.Equal(t, []string{"invoiceitem.created", "invoiceitem.created", "customer.subscription.updated"}, b.eventTypes(before))

	off, err := b.api.BillingPortalConfigurations.Update(config.ID, &stripe.BillingPortalConfigurationParams{
		Active: stripe.Bool(false), Features: &stripe.BillingPortalConfigurationFeaturesParams{
			SubscriptionUpdate: &stripe.BillingPortalConfigurationFeaturesSubscriptionUpdateParams{Enabled: stripe.Bool(false)},
		},
	})
	require.NoError(t, err)
	require.False(t, off.Active)
	_, err = open("pro")
	require.Error(t, err)
}
